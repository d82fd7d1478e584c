"""Latency and throughput of a served policy by number of sessions, what a protocol adds, and batches beside singles.

    python benchmarks/serving.py [--preset tiny] [--sessions 1 4 16] [--predictions 20] [--device auto] [--threads N]
    [--protocols vla-eval openpi http] [--json]

Weights are random, of the preset's true sizes. Clients are in a process of their own, a thread for each session, and
every observation (two frames of a shipped episode at 256 x 256, a sentence, a state) is a prediction, so that
``predictions/s`` times the chunk is ``actions/s``. ``adds`` is what a client waits beyond the time that the policy
itself takes for the same prediction (checks, resizing, tokens, forward pass): packing and unpacking, the socket, the
queue, and with http the decoding of PNG. A client's own encoding of PNG (16 ms a picture) is not in it.
"""

import argparse
import base64
import http.client
import io
import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from forms import film
from inference import INSTRUCTION, built
from machine import at_least_one, describe
from PIL import Image

from lamp_model.data.normalisation import Range
from lamp_model.observation import Observation
from lamp_model.policy import LampPolicy
from lamp_model.prediction import Noise
from lamp_model.serving.access import Access
from lamp_model.serving.conventions import client_for, match
from lamp_model.serving.episode import Served
from lamp_model.serving.protocols import make_protocol, openpi
from lamp_model.serving.service import PolicyService
from schemas.devices import choose_device
from schemas.robot_conventions import LIBERO_DELTA_OPEN, LIBERO_STATE

PICTURES = [film(camera, 0, 1, 256, 256)[0] for camera in ("agentview_rgb", "eye_in_hand_rgb")]
STATE = np.zeros(8)


class Timed(LampPolicy):
    """A policy that notes how long its own work takes."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.seconds: dict[str, list[float]] = {name: [] for name in ("prepare", "check_length", "predict_batch")}

    def prepare(self, observed: Observation) -> Any:
        return self._timed("prepare", super().prepare, observed)

    def check_length(self, instruction: str) -> Any:
        return self._timed("check_length", super().check_length, instruction)

    def predict_batch(self, *args: Any) -> Any:
        return self._timed("predict_batch", super().predict_batch, *args)

    def _timed(self, name: str, work: Callable[..., Any], *args: Any) -> Any:
        begun = time.perf_counter()
        done = work(*args)
        self.seconds[name].append(time.perf_counter() - begun)
        return done

    def forget(self) -> None:
        """Begin anew."""
        for one in self.seconds.values():
            one.clear()


@contextmanager
def vla_eval_session(port: int) -> Iterator[Callable[[], Any]]:
    from vla_eval.protocol.messages import Message, MessageType, pack_message, unpack_message
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as socket:
        socket.send(pack_message(Message(MessageType.EPISODE_START, {})))
        images = {"agentview": PICTURES[0], "wrist": PICTURES[1]}
        values = {"images": images, "states": STATE, "task_description": INSTRUCTION}

        def ask() -> Any:
            socket.send(pack_message(Message(MessageType.OBSERVATION, values)))
            reply = unpack_message(bytes(socket.recv()))  # type: ignore[arg-type]
            assert reply.type == MessageType.ACTION, reply
            return reply

        yield ask


@contextmanager
def openpi_session(port: int) -> Iterator[Callable[[], Any]]:
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as socket:
        socket.recv()
        images = {"observation/image": PICTURES[0], "observation/wrist_image": PICTURES[1]}
        values = {**images, "observation/state": STATE, "prompt": INSTRUCTION}

        def ask() -> Any:
            socket.send(openpi.pack(values))
            return openpi.unpack(socket.recv())

        yield ask


@contextmanager
def http_session(port: int) -> Iterator[Callable[[], Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    example = {"image": [_base64(picture) for picture in PICTURES], "lang": INSTRUCTION, "state": STATE.tolist()}

    def ask() -> Any:
        connection.request("POST", "/predict_action", json.dumps({"examples": [example], "seed": 0}))
        reply = connection.getresponse()
        content = json.loads(reply.read())
        assert reply.status == 200, content
        return content

    yield ask
    connection.close()


def _base64(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


SESSIONS = {"vla-eval": vla_eval_session, "openpi": openpi_session, "http": http_session}


def clients(protocol: str, port: int, sessions: int, predictions: int, results: Any) -> None:
    """Ask from several sessions at once; puts the latencies and the time in all into ``results``."""
    latencies: list[float] = []
    start = threading.Barrier(sessions + 1)

    def one() -> None:
        with SESSIONS[protocol](port) as ask:
            ask()
            start.wait()
            for _ in range(predictions):
                begun = time.perf_counter()
                ask()
                latencies.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=one) for _ in range(sessions)]
    for thread in threads:
        thread.start()
    start.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    results.put((latencies, time.perf_counter() - begun))


def measured(policy: Timed, protocol: str, sessions: int, predictions: int) -> dict[str, Any]:
    """One row of the table."""
    spoken = make_protocol(protocol)
    with PolicyService(policy) as service:
        matched = match(policy, client_for(policy, spoken.clients))
        running = spoken.start(Served(service, matched, execute=1), Access(port=0))
        policy.forget()
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        process = context.Process(target=clients, args=(protocol, running.port, sessions, predictions, results))
        process.start()
        latencies, seconds = results.get()
        process.join()
        values = service.values()
        running.close()
    rate = len(latencies) / seconds
    found = {
        "protocol": protocol,
        "sessions": sessions,
        "p50_ms": 1000 * float(np.quantile(latencies, 0.5)),
        "p95_ms": 1000 * float(np.quantile(latencies, 0.95)),
        "predictions_per_s": rate,
        "actions_per_s": rate * policy.model.config.action.chunk,
        "mean_batch": values["answers"] / sum(values["batch_sizes"].values()),
    }
    if sessions == 1:
        own = np.sum([seconds[-predictions:] for seconds in policy.seconds.values()], axis=0)
        found["adds_ms"] = 1000 * float(np.median(np.array(latencies) - own))
    return found


def of_batches(policy: LampPolicy, sizes: list[int], repeat: int) -> list[dict[str, Any]]:
    """Milliseconds for each observation of a batch, without a server."""
    seen = policy.prepare(Observation(PICTURES, INSTRUCTION, STATE))
    rows = []
    for size in sizes:
        noise = Noise.draw(policy.model, size, torch.Generator().manual_seed(0))
        times = []
        for _ in range(repeat + 1):
            begun = time.perf_counter()
            policy.predict_batch([seen] * size, noise, ["none"] * size)
            times.append(time.perf_counter() - begun)
        rows.append({"batch": size, "ms_each": 1000 * statistics.median(times[1:]) / size})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny", choices=("tiny", "paper"))
    parser.add_argument("--sessions", type=at_least_one, nargs="+", default=[1, 4, 16])
    parser.add_argument("--predictions", type=at_least_one, default=20, help="of each session")
    parser.add_argument("--protocols", nargs="+", default=list(SESSIONS), choices=list(SESSIONS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=at_least_one, help="of torch")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    model = built(args.preset, None, device, None)
    sizes = model.config.action.state_size, model.config.action.action_size
    ranges = [Range((-1.0,) * size, (1.0,) * size) for size in sizes]
    policy = Timed(model, *ranges, action_convention=LIBERO_DELTA_OPEN, state_names=LIBERO_STATE)
    rows = [measured(policy, name, count, args.predictions) for name in args.protocols for count in args.sessions]
    batches = of_batches(policy, sorted({1, *args.sessions}), args.predictions)
    if args.json:
        print(json.dumps({"machine": describe(), "preset": args.preset, "served": rows, "batches": batches}, indent=1))
        return
    print(f"{describe()}, {device}, {args.preset}, {torch.get_num_threads()} threads of torch\n")
    titles = ("protocol", "sessions", "p50 ms", "p95 ms", "predictions/s", "actions/s", "mean batch", "adds ms")
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for row in rows:
        adds = f"{row['adds_ms']:.1f}" if "adds_ms" in row else ""
        print(
            f"| {row['protocol']} | {row['sessions']} | {row['p50_ms']:.0f} | {row['p95_ms']:.0f} | "
            f"{row['predictions_per_s']:.1f} | {row['actions_per_s']:.0f} | {row['mean_batch']:.1f} | {adds} |"
        )
    print("\n| batch | ms for each observation |\n|---|---|")
    for row in batches:
        print(f"| {row['batch']} | {row['ms_each']:.1f} |")


if __name__ == "__main__":
    main()
