"""What a server measures: answers, their latency, the sizes of batches, refusals."""

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

QUANTILES = (0.5, 0.95, 0.99)
RECENT = 10_000
"""Percentiles are over so many answers at most."""


class Metrics:
    """Counts since the server began, and the latencies of the last answers. Any thread may call its methods."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._seconds_in_all, self._answers = 0.0, 0
        self._batches: Counter[int] = Counter()
        self._refused: Counter[str] = Counter()

    def answered(self, seconds: float) -> None:
        """Count an answer that took so long since its request was complete."""
        with self._lock:
            self._seconds.append(seconds)
            self._seconds_in_all += seconds
            self._answers += 1

    def ran(self, rows: int) -> None:
        """Count a forward pass."""
        with self._lock:
            self._batches[rows] += 1

    def refused(self, why: str) -> None:
        """Count a request that got an error: ``invalid``, ``busy``, ``failed`` or ``cancelled``."""
        with self._lock:
            self._refused[why] += 1

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count a message that does not read as a request, which ``ValueError`` says, as refused."""
        try:
            yield
        except ValueError:
            self.refused("invalid")
            raise

    def values(self, sessions: int, waiting: int) -> dict[str, Any]:
        """The measurements for JSON; percentiles are None before the first answer."""
        with self._lock:
            seconds = np.array(self._seconds)
            batches, refused = dict(sorted(self._batches.items())), dict(sorted(self._refused.items()))
            answers, total = self._answers, self._seconds_in_all
        latency = {f"p{q * 100:g}": float(np.quantile(seconds, q)) if len(seconds) else None for q in QUANTILES}
        return {
            "sessions": sessions,
            "waiting": waiting,
            "answers": answers,
            "seconds_in_all": total,
            "latency_seconds": latency,
            "batch_sizes": batches,
            "refused": refused,
        }


def prometheus(values: dict[str, Any]) -> str:
    """The measurements in Prometheus' text format."""
    lines = []

    def metric(name: str, kind: str, about: str, samples: dict[str, float]) -> None:
        lines.extend([f"# HELP lamp_{name} {about}", f"# TYPE lamp_{name} {kind}"])
        lines.extend(f"lamp_{name}{label} {number:g}" for label, number in samples.items())

    metric("sessions", "gauge", "Connected clients.", {"": values["sessions"]})
    metric("waiting_requests", "gauge", "Requests that wait for the policy.", {"": values["waiting"]})
    quantiles = {f'{{quantile="{name[1:]}"}}': at for name, at in _as_shares(values["latency_seconds"]).items()}
    metric(
        "answer_seconds",
        "summary",
        "Time from a complete request to its answer.",
        {**quantiles, "_sum": values["seconds_in_all"], "_count": values["answers"]},
    )
    sizes = values["batch_sizes"]
    bounds = [size for size in (1, 2, 4, 8, 16, 32, 64) if sizes and size <= max(sizes)]
    buckets = {f'_bucket{{le="{bound}"}}': sum(n for s, n in sizes.items() if s <= bound) for bound in bounds}
    passes, rows = sum(sizes.values()), sum(size * count for size, count in sizes.items())
    metric(
        "batch_rows",
        "histogram",
        "Observations in one forward pass.",
        {**buckets, '_bucket{le="+Inf"}': passes, "_sum": rows, "_count": passes},
    )
    metric(
        "refused_total",
        "counter",
        "Requests that got an error.",
        {f'{{why="{why}"}}': count for why, count in values["refused"].items()},
    )
    return "\n".join(lines) + "\n"


def _as_shares(latency: dict[str, float | None]) -> dict[str, float]:
    return {f"p{float(name[1:]) / 100:g}": at for name, at in latency.items() if at is not None}
