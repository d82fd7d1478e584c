"""Selects the samples to show from those that were measured."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from pipeline.inspection.sample import Found
from pipeline.inspection.summary import Candidate, evenly
from schemas.shard_formats import open_shard

Order = Literal["moving", "spread", "worst", "best"]

APART = 16
"""Least number of frames between the starts of two windows of an episode that look different enough to show both."""

RANKS: dict[str, Callable[[Candidate], float]] = {"worst": lambda c: c.trust, "best": lambda c: -c.trust}


def choose(candidates: list[Candidate], count: int, order: Order) -> list[Candidate]:
    """Some of the candidates: those that move most, are worst or best by score, or are evenly spread.

    The worst are taken from the worse half and the best from the better half, even if few windows there lie apart.
    Those that move most differ from each other (``varied``), so there may be fewer than ``count``.
    """
    if order == "spread":
        return spread(candidates, count)
    if order == "moving":
        return varied(candidates, count)
    half = sorted(candidates, key=lambda c: (RANKS[order](c), c.key))[: max(count, len(candidates) // 2)]
    return ranked(half, count, RANKS[order])


def varied(candidates: list[Candidate], count: int) -> list[Candidate]:
    """At most ``count`` of those that move most, spread over episodes and over moments of them.

    They are taken from the half that moves more, or from the ``count`` that move most if these are more. The one that
    moves most comes first. Each next one is of the episode that was used least so far, at the moment farthest from
    those already chosen. Of windows of an episode that begin fewer than ``APART`` frames apart only one is taken: they
    look alike.
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
    """The candidates of lowest rank, with preference for windows that do not overlap one chosen before."""
    ordered = sorted(candidates, key=lambda c: (rank(c), c.key))
    chosen: list[Candidate] = []
    for c in ordered:
        if all(c.episode != o.episode or abs(c.frame - o.frame) >= apart for o in chosen):
            chosen.append(c)
        if len(chosen) == count:
            return chosen
    return chosen + [c for c in ordered if c not in chosen][: count - len(chosen)]


def spread(candidates: list[Candidate], count: int) -> list[Candidate]:
    """Candidates that are evenly spread over episodes and their frames."""
    ordered = sorted(candidates, key=lambda c: c.key)
    return [ordered[i] for i in evenly(len(ordered), count)]


def read_again(candidates: Iterable[Candidate]) -> list[Found]:
    """Read the samples of the candidates again."""
    found = []
    for candidate in candidates:
        shard = open_shard(candidate.shard)
        found.append(Found(candidate.number, candidate.shard, shard.read(candidate.row)))
        shard.close()
    return found
