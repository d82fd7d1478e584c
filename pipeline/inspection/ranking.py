"""Which samples are shown, out of those that were measured."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from pipeline.inspection.sample import Found
from pipeline.inspection.summary import Candidate, evenly
from schemas.shard_formats import open_shard

Order = Literal["moving", "spread", "worst", "best"]

APART = 16
"""Frames between the beginnings of two windows of an episode that are different enough to be looked at side by side."""

RANKS: dict[str, Callable[[Candidate], float]] = {"worst": lambda c: c.trust, "best": lambda c: -c.trust}


def choose(candidates: list[Candidate], count: int, order: Order) -> list[Candidate]:
    """Some of the candidates: those that move most, are worst or best by score, or are evenly spread.

    The worst are of the worse half and the best of the better one, however few windows lie apart. Those that move most
    differ from each other (``varied``), so that there may be fewer than ``count``.
    """
    if order == "spread":
        return spread(candidates, count)
    if order == "moving":
        return varied(candidates, count)
    half = sorted(candidates, key=lambda c: (RANKS[order](c), c.key))[: max(count, len(candidates) // 2)]
    return ranked(half, count, RANKS[order])


def varied(candidates: list[Candidate], count: int) -> list[Candidate]:
    """At most ``count`` of those that move most, spread over episodes and over moments of them.

    Taken from the livelier half, or from as many as are wanted: the liveliest first, then each time one of the episode
    that was taken from least, at the moment that is farthest from those shown. Windows of an episode that begin fewer
    than ``APART`` frames apart look alike; one of them is enough.
    """
    left = sorted(candidates, key=lambda c: (-c.score, c.key))[: max(count, len(candidates) // 2)]
    chosen, taken = left[:1], Counter(c.episode for c in left[:1])
    while len(chosen) < count:
        left = [c for c in left if all(c.episode != o.episode or abs(c.frame - o.frame) >= APART for o in chosen)]
        if not left:
            break
        new = min(left, key=lambda c: (taken[c.episode], -min(abs(c.frame - o.frame) for o in chosen), -c.score, c.key))
        chosen.append(new)
        taken[new.episode] += 1
    return chosen[:count]


def ranked(
    candidates: list[Candidate], count: int, rank: Callable[[Candidate], float], apart: int = 32
) -> list[Candidate]:
    """Those of least rank, preferring windows that do not overlap one chosen before."""
    ordered = sorted(candidates, key=lambda c: (rank(c), c.key))
    chosen: list[Candidate] = []
    for c in ordered:
        if all(c.episode != o.episode or abs(c.frame - o.frame) >= apart for o in chosen):
            chosen.append(c)
        if len(chosen) == count:
            return chosen
    return chosen + [c for c in ordered if c not in chosen][: count - len(chosen)]


def spread(candidates: list[Candidate], count: int) -> list[Candidate]:
    """Evenly spread over episodes and their frames."""
    ordered = sorted(candidates, key=lambda c: c.key)
    return [ordered[i] for i in evenly(len(ordered), count)]


def read_again(candidates: Iterable[Candidate]) -> list[Found]:
    """The samples of candidates."""
    found = []
    for candidate in candidates:
        shard = open_shard(candidate.shard)
        found.append(Found(candidate.number, candidate.shard, shard.read(candidate.row)))
        shard.close()
    return found
