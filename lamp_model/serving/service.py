"""A policy for many sessions at once: one thread runs it, on batches of what the sessions ask.

An answer does not depend on the others of its batch: each session has its own random stream, and what would influence
other rows (images of another size; with padding ``repeat``, texts of another length) goes through the networks apart.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from lamp_model import observation
from lamp_model.observation import Observation
from lamp_model.policy import LampPolicy
from lamp_model.prediction import MotionWanted, Noise, NotFinite, Prediction, Seen
from lamp_model.serving.metrics import Metrics

MOST_ROWS = 256
"""Of one request; more are surely a mistake."""


class Busy(RuntimeError):
    """Too many requests wait already; the client may ask again later."""


class Ending(RuntimeError):
    """The server ends and takes no more requests."""


@dataclass(frozen=True)
class Answer:
    """Actions in the policy's own convention, and the imagined motion, if it was asked for.

    Attributes:
        normalised: the network's own output.
        motion: increments of the keypoint grid at each step, in the upright image.
    """

    actions: Float[np.ndarray, "H A"]
    normalised: Float[np.ndarray, "H A"]
    motion: Float[np.ndarray, "K T 3"] | None


@dataclass
class _Request:
    """Observations that are answered together, with noise from one generator.

    Attributes:
        key: requests of equal keys may share a forward pass; found when the request is taken.
    """

    seen: list[Seen]
    generator: torch.Generator
    wanted: MotionWanted
    future: "Future[list[Answer]]"
    begun: float
    noise: Noise | None = None
    key: Any = None


class PolicyService:
    """Answers the observations of sessions, until it is closed. Any thread may ask."""

    def __init__(self, policy: LampPolicy, max_batch: int = 16, wait_ms: float = 2.0, max_waiting: int = 256):
        """Start the thread.

        Args:
            max_batch: observations in one forward pass.
            wait_ms: how long a request waits for others, while other clients are connected.
            max_waiting: requests that may wait; further ones are refused as ``Busy``.

        Raises:
            ValueError: a number is out of range.
        """
        for name, value in (("max-batch", max_batch), ("max-waiting", max_waiting), ("wait-ms", wait_ms)):
            least = 0 if name == "wait-ms" else 1
            if not least <= value <= 65_536:
                raise ValueError(f"{name} must lie between {least} and 65536, found {value}")
        self.policy, self.max_batch, self.wait_ms, self.max_waiting = policy, max_batch, wait_ms, max_waiting
        self.metrics = Metrics()
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._clients, self._ending = 0, False
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    def session(self, seed: int) -> "Session":
        """A session whose random stream begins with a seed.

        Raises:
            ValueError: the seed is no 64-bit integer.
        """
        observation.check_seed(seed)
        return Session(self, torch.Generator().manual_seed(int(seed)))

    @contextmanager
    def client(self) -> Iterator[None]:
        """Count a connected client: while there is only one, no request waits for others."""
        with self._changed:
            self._clients += 1
        try:
            yield
        finally:
            with self._changed:
                self._clients -= 1
                self._changed.notify()

    def submit(
        self,
        observations: Sequence[Observation],
        generator: torch.Generator,
        wanted: MotionWanted = "none",
    ) -> "Future[list[Answer]]":
        """Ask for the answers to some observations. Noise is drawn from the generator for all of them at once, when
        they are taken and in the order of the requests; a refused or cancelled request draws none.

        The future raises ``ValueError`` for an instruction that is too long and ``NotFinite`` for a damaged network.

        Raises:
            ValueError: an observation is not valid, or there is no motion to return.
            Busy: too many requests wait.
            Ending: the service has been closed.
        """
        begun = time.monotonic()
        try:
            if not 1 <= len(observations) <= MOST_ROWS:
                raise ValueError(f"a request holds 1 to {MOST_ROWS} observations, found {len(observations)}")
            self.policy.check_motion(wanted != "none")
            seen = [self.policy.prepare(observed) for observed in observations]
        except ValueError:
            self.metrics.refused("invalid")
            raise
        request = _Request(seen, generator, wanted, Future(), begun)
        with self._changed:
            if self._ending:
                raise Ending("the server is ending and takes no more requests")
            if len(self._waiting) >= self.max_waiting:
                self.metrics.refused("busy")
                raise Busy(f"{len(self._waiting)} requests wait already, as many as this server lets wait: try later")
            self._waiting.append(request)
            self._changed.notify()
        return request.future

    def values(self) -> dict[str, Any]:
        """The measurements; see ``Metrics.values``."""
        with self._changed:
            clients, waiting = self._clients, len(self._waiting)
        return self.metrics.values(clients, waiting)

    def close(self) -> None:
        """Answer what waits, take no more, and end the thread."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> "PolicyService":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        while requests := self._next():
            taken = [request for request in requests if self._take(request)]
            for group in _grouped(taken):
                self._answer(group)

    def _next(self) -> list[_Request]:
        """Wait for requests; those of the next batch, oldest first. None when the service has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            until = time.monotonic() + self.wait_ms / 1000
            while not self._ending and self._rows() < min(self.max_batch, self._clients):
                if (left := until - time.monotonic()) <= 0 or not self._changed.wait(left):
                    break
            taken, rows = [], 0
            while self._waiting and (not taken or rows + len(self._waiting[0].seen) <= self.max_batch):
                taken.append(self._waiting.popleft())
                rows += len(taken[-1].seen)
            return taken

    def _rows(self) -> int:
        return sum(len(request.seen) for request in self._waiting)

    def _take(self, request: _Request) -> bool:
        """Check what only this thread may check, and draw the request's noise; false if it needs no answer."""
        if not request.future.set_running_or_notify_cancel():
            self.metrics.refused("cancelled")
            return False
        try:
            lengths = [self.policy.check_length(row.instruction) for row in request.seen]
        except ValueError as error:
            self.metrics.refused("invalid")
            request.future.set_exception(error)
            return False
        request.noise = Noise.draw(self.policy.model, len(request.seen), request.generator)
        sizes = {row.sizes for row in request.seen}
        if len(sizes) > 1:
            request.key = id(request)
        elif self.policy.model.config.padding == "repeat":  # there padding is treated like tokens
            request.key = (sizes.pop(), lengths[0]) if len(set(lengths)) == 1 else id(request)
        else:
            request.key = sizes.pop()
        return True

    def _answer(self, requests: list[_Request]) -> None:
        """Run requests of one key; when that fails, each alone, so that one cannot fail the others."""
        try:
            rows = self._predict(requests)
        except Exception as error:
            if len(requests) > 1:
                for request in requests:
                    self._answer([request])
                return
            self.metrics.refused("failed")
            requests[0].future.set_exception(error)
            return
        for request in requests:
            own, rows = rows[: len(request.seen)], rows[len(request.seen) :]
            wrong = next((row for row in own if isinstance(row, NotFinite)), None)
            if wrong is not None:
                self.metrics.refused("failed")
                request.future.set_exception(wrong)
            else:
                self.metrics.answered(time.monotonic() - request.begun)
                request.future.set_result([_answer(row) for row in own if isinstance(row, Prediction)])

    def _predict(self, requests: list[_Request]) -> list[Prediction | NotFinite]:
        seen = [row for request in requests for row in request.seen]
        wanted: list[MotionWanted] = [request.wanted for request in requests for _ in request.seen]
        noise = Noise.joined([request.noise for request in requests if request.noise is not None])
        rows: list[Prediction | NotFinite] = []
        for chosen in _passes(seen, self.max_batch):
            self.metrics.ran(len(chosen))
            part = self.policy.predict_batch([seen[n] for n in chosen], noise.rows(chosen), [wanted[n] for n in chosen])
            rows += part
        return rows


class Session:
    """One client's requests, with a random stream that goes on from request to request."""

    def __init__(self, service: PolicyService, generator: torch.Generator):
        self._service, self._generator = service, generator

    def submit(self, observed: Observation, wanted: MotionWanted = "none") -> "Future[list[Answer]]":
        """Ask for an answer; see ``PolicyService.submit``."""
        return self._service.submit([observed], self._generator, wanted)

    def act(self, observed: Observation, return_motion: bool = False) -> Answer:
        """Wait for an answer.

        Raises:
            ValueError, Busy, Ending: see ``PolicyService.submit``.
        """
        return self.submit(observed, "whole" if return_motion else "none").result()[0]


def _answer(row: Prediction) -> Answer:
    return Answer(row.actions.numpy(), row.normalised.numpy(), None if row.motion is None else row.motion.numpy())


def _grouped(requests: list[_Request]) -> list[list[_Request]]:
    groups: dict[Any, list[_Request]] = {}
    for request in requests:
        groups.setdefault(request.key, []).append(request)
    return list(groups.values())


def _passes(seen: Sequence[Seen], most: int) -> list[list[int]]:
    """Numbers of the rows of each forward pass: of equal sizes of images, in order, and no more than ``most``."""
    passes: list[list[int]] = []
    for number, row in enumerate(seen):
        if passes and len(passes[-1]) < most and seen[passes[-1][-1]].sizes == row.sizes:
            passes[-1].append(number)
        else:
            passes.append([number])
    return passes
