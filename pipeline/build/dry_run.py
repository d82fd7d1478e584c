"""Estimates what a build would make, from a short trial in memory: nothing is written.

Episodes are tried in an order that stays evenly spread over the listing wherever it stops, so the tried ones are a
representative sample.
"""

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pipeline.build.episode_store import LeftOut, MadeEpisode, Quarantined
from pipeline.build.executor import Executor, WorkerDied
from pipeline.build.listing import Listing
from pipeline.build.selection import Selection
from pipeline.build.workers import EpisodeMaker
from pipeline.episodes.chunks import DEFAULT_CHUNKS, ChunkConfig
from pipeline.readers import words_of
from pipeline.recipe import Recipe
from pipeline.timing import Stopwatch
from schemas.episode import BadEpisode, EpisodeRef

SECONDS = 20.0
MOST = 10_000
"""Episodes that are tried at most."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Tried:
    """One episode of the trial."""

    outcome: str
    """``taken``, ``left out`` or ``quarantined``."""
    seconds: float
    frames: int = 0
    triplets: int = 0
    bytes: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Estimate:
    """A total of the whole build, with a 95 % interval from ``low`` to ``high`` from the tried episodes. Both are
    None for a single episode, which gives no variance."""

    about: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Trial:
    """The episodes listed and tried, and the estimates for the whole build.

    Attributes:
        listed: episodes in the folder.
        left_out: episodes excluded by the selection, as far as the listing decides it.
        unreadable: files that could not be listed.
        candidates: episodes that remain after the listing.
        tried: those of them that were tried.
        seconds: duration of the trial.
        workers: processes that the build would use.
        where: on which machines, in words.
        totals: estimates of ``episodes``, ``frames``, ``windows``, ``triplets``, ``bytes`` and ``hours``.
        reasons: share of the tried windows that were rejected, by reason.
    """

    listed: int
    left_out: dict[str, int]
    unreadable: int
    candidates: int
    tried: list[Tried]
    seconds: float
    workers: int
    where: str
    totals: dict[str, Estimate]
    reasons: dict[str, float]

    @property
    def exact(self) -> bool:
        """Whether every episode was tried."""
        return len(self.tried) == self.candidates

    def outcomes(self, outcome: str) -> dict[str, int]:
        """Of the tried episodes, those left out or quarantined, by reason."""
        return dict(sorted(Counter(t.reason for t in self.tried if t.outcome == outcome).items()))

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "listed": self.listed,
            "left_out": self.left_out,
            "unreadable": self.unreadable,
            "candidates": self.candidates,
            "tried": len(self.tried),
            "tried_left_out": self.outcomes("left out"),
            "tried_quarantined": self.outcomes("quarantined"),
            "seconds": self.seconds,
            "workers": self.workers,
            "where": self.where,
            "exact": self.exact,
            "rejected_share": self.reasons,
            **{name: vars(estimate) for name, estimate in self.totals.items()},
        }


def try_build(
    recipe: Recipe,
    listing: Listing,
    selection: Selection,
    workers: int | None = None,
    seconds: float = SECONDS,
    chunks: ChunkConfig = DEFAULT_CHUNKS,
    executor: Executor | None = None,
    where: str = "this machine",
) -> Trial:
    """Make some episodes and discard them.

    Args:
        workers: processes of the build; None for one to each CPU that this process may use.
        seconds: time after which no further episode is begun.
        chunks: how much of an episode is worked on at a time.
        executor: makes the episodes where the build would run; None to make them in this process.
        where: see ``Trial``.

    Raises:
        BuildError: something that a plug-in needs is unavailable.
    """
    recipe.check(own_devices=executor is None)
    refs = listing.chosen.refs
    maker, tried, begun = TrialWorkerFactory(recipe, selection, chunks), [], []
    some = [refs[number] for number in islice(spread(len(refs)), MOST)]

    def begins(_: EpisodeRef) -> None:
        begun.append(time.perf_counter())

    made = executor.run(maker, some, device=recipe.device, begun=begins) if executor else _in_turn(maker, some, begins)
    with contextlib.closing(made):
        for _, one in made:
            if isinstance(one, WorkerDied):
                one = Tried("quarantined", 0.0, reason="worker_died", message=one.message)
            tried.append(one)
            elapsed = time.perf_counter() - begun[0]  # without the time in which workers start
            if elapsed + elapsed / len(tried) > seconds:
                break
    workers = workers or len(os.sched_getaffinity(0))
    windows = sum(t.triplets + sum(t.rejected.values()) for t in tried)
    reasons = sum((Counter(t.rejected) for t in tried), Counter[str]())
    return Trial(
        listed=listing.total,
        left_out=listing.chosen.left_out,
        unreadable=len(listing.unreadable),
        candidates=len(refs),
        tried=tried,
        seconds=time.perf_counter() - begun[0],
        workers=workers,
        where=where,
        totals=_totals(tried, len(refs), selection.limit, workers),
        reasons={reason: count / windows for reason, count in sorted(reasons.items())},
    )


def spread(count: int) -> Iterator[int]:
    """All numbers below ``count``, each once; every prefix of the sequence is evenly spread."""
    seen: set[int] = set()
    step = 0
    while len(seen) < count:
        number = int((0.5 + step * GOLDEN) % 1 * count)
        step += 1
        if number not in seen:
            seen.add(number)
            yield number


def estimate(values: Sequence[float], total: int) -> Estimate:
    """The sum over ``total`` items, extrapolated from the values of some of them or of as many similar ones."""
    count = len(values)
    mean = sum(values) / max(count, 1)
    if count == total:
        return Estimate(mean * total, mean * total, mean * total)
    if count < 2:
        return Estimate(mean * total, None, None)
    variance = sum((v - mean) ** 2 for v in values) / (count - 1)
    unseen = 1 - count / total if count < total else 1
    error = 2 * total * math.sqrt(variance / count * unseen)
    return Estimate(mean * total, max(mean * total - error, 0), mean * total + error)


def summed(estimates: Sequence[Estimate]) -> Estimate:
    """The total over several builds; each was tried separately, so their errors are independent."""
    about = sum(e.about for e in estimates)
    bounds = [(e.low, e.high) for e in estimates]
    if any(low is None or high is None for low, high in bounds):
        return Estimate(about, None, None)
    below = math.hypot(*(e.about - e.low for e in estimates if e.low is not None))
    above = math.hypot(*(e.high - e.about for e in estimates if e.high is not None))
    return Estimate(about, about - below, about + above)


def _in_turn(
    make_worker: "TrialWorkerFactory", refs: Sequence[EpisodeRef], begins: Callable[[EpisodeRef], None]
) -> Generator[tuple[EpisodeRef, Tried | WorkerDied], None, None]:
    worker = make_worker()
    for ref in refs:
        begins(ref)
        yield ref, worker(ref)


@dataclass(frozen=True)
class TrialWorkerFactory:
    """Makes a ``TrialWorker`` in a worker's process."""

    recipe: Recipe
    selection: Selection
    chunks: ChunkConfig

    def __call__(self) -> "TrialWorker":
        return TrialWorker(EpisodeMaker(self.recipe, self.chunks), self.selection)


class TrialWorker:
    """Makes episodes and keeps only what is counted of them."""

    def __init__(self, maker: EpisodeMaker, selection: Selection):
        self.maker, self.selection = maker, selection

    def __call__(self, ref: EpisodeRef) -> Tried:
        """Try one episode."""
        maker, selection, start = self.maker, self.selection, time.perf_counter()
        try:
            reason = selection.takes(ref, words_of(maker.reader, ref)) if selection.needs_words else None
            made = LeftOut(ref.source, ref.episode, reason) if reason else maker.make(ref, Stopwatch())
        except BadEpisode as error:
            made = Quarantined.of(ref, error)
        seconds = time.perf_counter() - start
        if isinstance(made, LeftOut):
            return Tried("left out", seconds, reason=made.reason)
        if isinstance(made, Quarantined):
            return Tried("quarantined", seconds, reason=made.code, message=made.message)
        assert isinstance(made, MadeEpisode)
        size = sum(len(data) for _, _, data in made.regions)
        return Tried("taken", seconds, made.report.frames, len(made.regions), size, made.report.rejected)


def _totals(tried: Sequence[Tried], candidates: int, limit: int | None, workers: int) -> dict[str, Estimate]:
    """Totals over the candidates, or over ``limit`` taken episodes where the limit is reached before the last one."""
    taken = [t for t in tried if t.outcome == "taken"]
    share = len(taken) / max(len(tried), 1)
    if limit is not None and limit < candidates * share:
        counted, total, looked_at = taken, limit, math.ceil(limit / share)
    else:
        counted, total, looked_at = tried, candidates, candidates
    values = {
        "episodes": [float(t.outcome == "taken") for t in counted],
        "frames": [float(t.frames) for t in counted],
        "windows": [float(t.triplets + sum(t.rejected.values())) for t in counted],
        "triplets": [float(t.triplets) for t in counted],
        "bytes": [float(t.bytes) for t in counted],
    }
    hours = estimate([t.seconds / 3600 / workers for t in tried], looked_at)
    return {**{name: estimate(numbers, total) for name, numbers in values.items()}, "hours": hours}
