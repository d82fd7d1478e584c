"""Which samples are shown, out of those that were measured."""

from collections.abc import Callable, Iterable
from typing import Literal

from pipeline.inspection.sample import Found
from pipeline.inspection.summary import Candidate, evenly
from schemas.shard_formats import open_shard

Order = Literal["moving", "spread", "worst", "best"]

RANKS: dict[str, Callable[[Candidate], float]] = {
    "moving": lambda c: -c.score,
    "worst": lambda c: c.trust,
    "best": lambda c: -c.trust,
}


def choose(candidates: list[Candidate], count: int, order: Order) -> list[Candidate]:
    """Some of the candidates: those that move most, are worst or best by score, or are evenly spread.

    The worst are of the worse half and the best of the better one, however few windows lie apart.
    """
    if order == "spread":
        return spread(candidates, count)
    if order in ("worst", "best"):
        candidates = sorted(candidates, key=lambda c: (RANKS[order](c), c.key))[: max(count, len(candidates) // 2)]
    return ranked(candidates, count, RANKS[order])


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
