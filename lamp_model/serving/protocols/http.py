"""The HTTP protocol of the authors' release: ``POST /predict_action`` with JSON and base64 pictures.

It keeps their paths, names and codes, and one generator for each request. It differs where theirs would answer
nonsense: NaN and an empty instruction are refused, and an error has a ``message`` beside its code.
"""

import base64
import binascii
import contextlib
import http.server
import json
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from lamp_model import observation
from lamp_model.observation import Observation
from lamp_model.prediction import NotFinite
from lamp_model.serving.access import Access, CannotListen
from lamp_model.serving.conventions import LIBERO_AUTHORS, Client
from lamp_model.serving.episode import Served
from lamp_model.serving.metrics import prometheus
from lamp_model.serving.pictures import decode_picture
from lamp_model.serving.refusals import said
from lamp_model.serving.service import Answer, Busy, Ending
from schemas.errors import first_line

IDLE_SECONDS = 60.0
"""A connection on which nothing comes for so long is closed."""
MOST_FORGOTTEN = 2**28
"""Bytes of a refused body."""
INVALID, FAILED = "invalid_request", "prediction_failed"


@dataclass(frozen=True)
class Config:
    """There are no options."""


def build(config: Config) -> "Http":
    """The protocol."""
    return Http()


class Http:
    """See ``lamp_model.serving.protocols.Protocol``."""

    clients: Mapping[str, Client] = MappingProxyType({LIBERO_AUTHORS.name: LIBERO_AUTHORS})

    def start(self, served: Served, access: Access) -> "HttpServer":
        """See ``lamp_model.serving.protocols.Protocol``."""
        return HttpServer(served, access)


class HttpServer(http.server.ThreadingHTTPServer):
    """Listens until it is closed; a thread for each connection.

    Attributes:
        port: on which it listens.
    """

    daemon_threads = False  # closing waits for them

    def __init__(self, served: Served, access: Access):
        """Start.

        Raises:
            CannotListen: the address cannot be listened on, for example because another program does.
        """
        self.served, self.access = served, access
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        if ":" in access.host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((access.host, access.port), _Handler)
        except OSError as error:
            raise CannotListen(access, error) from error
        self.port: int = self.socket.getsockname()[1]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """See ``lamp_model.serving.protocols.Running``."""
        self.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                _shut(connection, socket.SHUT_RD)  # idle ones end, the others still send their answer
        self.server_close()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See ``ThreadingHTTPServer``."""
        with self._lock:
            room = len(self._connections) < self.access.max_clients
            if room:
                self._connections.add(request)
        try:
            if room:
                with self.served.service.client():
                    super().process_request_thread(request, client_address)
            else:
                self.shutdown_request(request)
        finally:
            with self._lock:
                self._connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: HttpServer  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        """Health and metrics."""
        if self.path == "/health":
            self._send(200, {"status": "ok"})
        elif not self._allowed():
            self._send(401, {"error": "unauthorized", "message": "this server needs a token"})
        elif self.path == "/metrics":
            values = self.server.served.service.values()
            if "application/json" in self.headers.get("Accept", ""):
                self._send(200, values)
            else:
                self._send_bytes(200, prometheus(values).encode(), "text/plain; version=0.0.4")
        else:
            self._send(404, {"error": "not_found"})

    def do_POST(self) -> None:
        """A prediction."""
        if self.path != "/predict_action":
            self.close_connection = True  # the body is not read
            self._send(404, {"error": "not_found"})
        elif not self._allowed():
            self.close_connection = True
            self._send(401, {"error": "unauthorized", "message": "this server needs a token"})
        elif (body := self._body()) is not None:
            self._send(*answer(self.server.served, body))

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not logged."""

    def _allowed(self) -> bool:
        return self.server.access.allows(self.headers.get("Authorization"))

    def _body(self) -> bytes | None:
        """The request's body; None after a refusal."""
        most, said = self.server.access.max_bytes, self.headers.get("Content-Length")
        length = int(said) if said is not None and said.isascii() and said.isdigit() and len(said) < 20 else 0
        if not 0 < length <= most or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            self.server.served.service.metrics.refused("invalid")
            message = f"a request needs a Content-Length between 1 and {most} bytes, found {said}"
            self._send(400, {"error": INVALID, "message": message})
            self._drain(length)
            return None
        body = self.rfile.read(length)
        self.close_connection |= len(body) < length  # the client went away
        return body

    def _drain(self, length: int) -> None:
        """Read and forget what a client still sends, so that it reads the refusal; no more than ``MOST_FORGOTTEN``."""
        left = min(length, MOST_FORGOTTEN) or MOST_FORGOTTEN
        self.connection.settimeout(1.0)
        with contextlib.suppress(OSError):
            while left > 0 and (read := self.rfile.read1(min(left, 2**16))):
                left -= len(read)

    def _send(self, code: int, values: dict[str, Any]) -> None:
        body = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
        self._send_bytes(code, body, "application/json")

    def _send_bytes(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def answer(served: Served, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and content of the answer to a prediction's body."""
    try:
        request = _read(served, body)
    except ValueError as error:
        served.service.metrics.refused("invalid")
        return 400, {"error": INVALID, "message": first_line(error)}
    try:
        future = served.service.submit(request.observations, request.generator, request.wanted)
        return 200, _values(served, future.result())
    except (Busy, Ending) as error:
        return 503, {"error": "busy", "message": said(error)}
    except NotFinite as error:
        return 500, {"error": FAILED, "message": said(error)}
    except ValueError as error:
        return 400, {"error": INVALID, "message": first_line(error)}
    except Exception as error:
        return 500, {"error": FAILED, "message": said(error)}


@dataclass(frozen=True)
class _Read:
    observations: list[Observation]
    generator: torch.Generator
    wanted: Any


def _read(served: Served, body: bytes) -> _Read:
    """A request from its JSON.

    Raises:
        ValueError: it is not valid.
    """
    try:
        values = json.loads(body, parse_constant=_no_constant)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"a request of {len(body)} bytes does not read as JSON: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise ValueError(f"a request must be a JSON object, found {type(values).__name__}")
    examples = values.get("examples")
    if not isinstance(examples, list) or not examples:
        raise ValueError("a request needs examples, a list that is not empty")
    key, own = values.get("unnorm_key"), served.match.policy.statistics_key
    if key is not None and key != own:
        raise ValueError(f"unnorm_key is {key!r}, and this server was started with the statistics of {own!r}")
    seed = _seed(values.get("seed"))
    wanted = "first-step" if values.get("return_motion") or served.motion else "none"
    served.match.policy.check_motion(wanted != "none")
    observations = [_observation(served, example) for example in examples]
    return _Read(observations, torch.Generator().manual_seed(seed), wanted)


def _seed(said: Any) -> int:
    """A request's seed: random where none is said, else a whole number; the authors' server takes it as text too."""
    if said is None:
        return secrets.randbits(63)
    try:
        seed = int(said)
    except (TypeError, ValueError, OverflowError):
        seed = said
    observation.check_seed(seed)
    return seed


def _no_constant(name: str) -> Any:
    raise ValueError(f"a number must be finite, found {name}")


def _observation(served: Served, example: Any) -> Observation:
    if not isinstance(example, dict) or not isinstance(example.get("image"), list):
        raise ValueError("an example must be an object with image (a list), lang and state")
    names = list(served.match.client.cameras.values() if served.match.client.cameras else served.match.policy.cameras)
    images = {name: _picture(text) for name, text in zip(names, example["image"], strict=False)}
    return served.match.observation(images, example.get("lang"), example.get("state"))


def _picture(text: Any) -> Any:
    if not isinstance(text, str):
        raise ValueError(f"an image must be base64 text, found {type(text).__name__}")
    try:
        return decode_picture(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise ValueError(f"an image is not base64: {error}") from error


def _values(served: Served, answers: Sequence[Answer]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "normalized_actions": [one.normalised.tolist() for one in answers],
        "actions": [served.match.actions(one.actions).tolist() for one in answers],
    }
    motions = [served.match.motion(one.motion).tolist() for one in answers if one.motion is not None]
    return {**values, "motion_flow": motions} if motions else values


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(how)
