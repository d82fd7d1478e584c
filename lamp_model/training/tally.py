"""Sums and counts by name, whose means do not depend on how the samples were divided."""

from collections.abc import Iterable, Mapping
from typing import Any


class Tally:
    """Sums and counts by name.

    Attributes:
        sums, counts: by the same names.
    """

    def __init__(self, sums: Mapping[str, float] | None = None, counts: Mapping[str, int] | None = None):
        self.sums: dict[str, float] = dict(sums or {})
        self.counts: dict[str, int] = dict(counts or {})

    def add(self, name: str, total: float, count: int) -> None:
        """Add a sum over so many entries."""
        self.sums[name] = self.sums.get(name, 0.0) + total
        self.counts[name] = self.counts.get(name, 0) + count

    def means(self) -> dict[str, float]:
        """The mean of each name that has any entries."""
        return {name: total / self.counts[name] for name, total in self.sums.items() if self.counts[name]}

    def as_json(self) -> dict[str, Any]:
        """For another rank; see ``merged``."""
        return {"sums": self.sums, "counts": self.counts}


def merged(tallies: Iterable[Mapping[str, Any]]) -> Tally:
    """The sum of tallies given ``as_json``, added in the given order."""
    whole = Tally()
    for one in tallies:
        for name, total in one["sums"].items():
            whole.add(name, total, one["counts"][name])
    return whole
