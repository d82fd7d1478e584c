"""A WebSocket server on a thread of its own: limits, token, health and metrics; protocols say what is spoken."""

import asyncio
import contextlib
import http
import json
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from lamp_model.serving.access import Access, CannotListen
from lamp_model.serving.metrics import prometheus
from lamp_model.serving.service import PolicyService

T = TypeVar("T")
logger = logging.getLogger(__name__)
GRACE = 30.0
"""Seconds that answers may still take when the server ends."""
GOOD_BYE = 1.0
"""Seconds that clients then have to close their connection."""
GOING_AWAY = 1001


class Gone(Exception):
    """The client disconnected before its answer was ready."""


class Link:
    """A connected client."""

    def __init__(self, socket: ServerConnection, busy: set[ServerConnection]):
        self._socket, self._busy = socket, busy
        self._closed = asyncio.ensure_future(socket.wait_closed())

    async def receive(self) -> bytes | str:
        """The next message.

        Raises:
            ConnectionClosed: there is none.
        """
        self._busy.discard(self._socket)
        message = await self._socket.recv()
        self._busy.add(self._socket)
        return message

    async def send(self, message: bytes | str) -> None:
        """Send a message."""
        await self._socket.send(message)

    async def answer(self, future: "Future[T]") -> T:
        """Wait for a future; it is cancelled if the client goes.

        Raises:
            Gone: the client went.
        """
        waiting = asyncio.wrap_future(future)
        await asyncio.wait({waiting, self._closed}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            future.cancel()
            raise Gone
        return waiting.result()


class WebSocketServer:
    """Listens until it is closed.

    Attributes:
        port: on which it listens.
    """

    port: int

    def __init__(self, service: PolicyService, access: Access, converse: Callable[[Link], Awaitable[None]]):
        """Start the thread.

        Args:
            converse: called for each client; raises ``ConnectionClosed`` or ``Gone`` when the client goes.

        Raises:
            CannotListen: the address cannot be listened on, for example because another program does.
        """
        self._service, self._access, self._converse = service, access, converse
        self._busy: set[ServerConnection] = set()
        self._clients = 0
        self._ready: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="websocket", daemon=True)
        self._thread.start()
        self.port = self._ready.result()

    def close(self) -> None:
        """See ``lamp_model.serving.protocols.Running``."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        access = self._access
        try:
            server = await serve(
                self._handle,
                access.host,
                access.port,
                process_request=self._process,
                compression=None,  # pictures do not get smaller, and answers would take longer
                max_size=access.max_bytes,
                max_queue=2,
                ping_interval=None,  # a client that steps a simulator does not answer pings for seconds
                logger=_quiet(),
            )
        except OSError as error:
            self._ready.set_exception(CannotListen(access, error))
            return
        except Exception as error:  # such as a host that is no name
            self._ready.set_exception(error)
            return
        self._ready.set_result(server.sockets[0].getsockname()[1])
        await self._end.wait()
        await self._finish(server)

    async def _finish(self, server: Server) -> None:
        """Let the answers that are due go out, then say good-bye to everyone."""
        server.server.close()
        until = self._loop.time() + GRACE
        while self._busy and self._loop.time() < until:
            await asyncio.sleep(0.01)
        server.close(code=GOING_AWAY, reason="the server is ending")
        with contextlib.suppress(TimeoutError):  # some may have connected and said nothing
            await asyncio.wait_for(server.wait_closed(), GOOD_BYE)

    async def _handle(self, socket: ServerConnection) -> None:
        self._clients += 1
        try:
            with self._service.client():
                await self._converse(Link(socket, self._busy))
        except (ConnectionClosed, Gone):
            pass
        except Exception:
            logger.exception("a conversation ended by an error of the server")
            await socket.close(1011, "an error of the server")
        finally:
            self._clients -= 1
            self._busy.discard(socket)

    def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == "/health":
            return _response(connection, http.HTTPStatus.OK, "application/json", '{"status":"ok"}')
        if not self._access.allows(request.headers.get("Authorization"), request.path):
            told = "this server needs a token: Authorization: Bearer TOKEN, or ?token=TOKEN in the address\n"
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, told)
        if path == "/metrics":
            values = self._service.values()
            if "application/json" in request.headers.get("Accept", ""):
                return _response(connection, http.HTTPStatus.OK, "application/json", json.dumps(values))
            return _response(connection, http.HTTPStatus.OK, "text/plain; version=0.0.4", prometheus(values))
        if self._clients >= self._access.max_clients:
            told = f"{self._clients} clients are connected, as many as this server takes\n"
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, told)
        return None


def _response(connection: ServerConnection, status: http.HTTPStatus, kind: str, body: str) -> Response:
    response = connection.respond(status, body)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = kind
    return response


def _quiet() -> Any:
    """websockets logs each connection, and tracebacks of clients that speak no WebSocket."""
    quiet = logging.getLogger("lamp_model.serving.websockets")
    quiet.setLevel(logging.CRITICAL)
    return quiet
