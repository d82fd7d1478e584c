"""Two policies on the same initial states, pair by pair."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lamp_model.closed_loop.results import BadResults, EpisodeResult, by_suite, read_evaluation, read_results
from lamp_model.closed_loop.statistics import mcnemar


@dataclass(frozen=True)
class Pairs:
    """The paired episodes of a suite, or of all.

    Attributes:
        unpaired: episodes that only one of the two has finished.
    """

    name: str
    both: int
    only_first: int
    only_second: int
    neither: int
    unpaired: int

    @property
    def count(self) -> int:
        """Number of pairs."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def first_percent(self) -> float:
        """Success of the first on the pairs."""
        return 100 * (self.both + self.only_first) / self.count if self.count else 0.0

    @property
    def second_percent(self) -> float:
        """Success of the second on the pairs."""
        return 100 * (self.both + self.only_second) / self.count if self.count else 0.0

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test, two-sided."""
        return mcnemar(self.only_first, self.only_second)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "pairs": self.count,
            "first_percent": self.first_percent,
            "second_percent": self.second_percent,
            "p_value": self.p_value,
        }


def compare(first: Path, second: Path) -> list[Pairs]:
    """Pair two folders of results by suite, task and initial state: a line for each suite, and one for all.

    Raises:
        BadResults: a folder is damaged, the protocols differ, or nothing can be paired.
    """
    one, other = read_evaluation(first), read_evaluation(second)
    if differences := one.protocol.differences(other.protocol):
        raise BadResults(f"{first} and {second} followed different protocols ({differences}): they cannot be paired")
    suites, others = by_suite(read_results(first)), by_suite(read_results(second))
    lines = [_paired(suite, suites[suite], others[suite]) for suite in suites if suite in others]
    lines = [line for line in lines if line.count]
    if not lines:
        raise BadResults(f"{first} and {second} have no finished episode in common: there is nothing to compare")
    if len(lines) > 1:
        numbers = zip(*((p.both, p.only_first, p.only_second, p.neither, p.unpaired) for p in lines), strict=True)
        lines.append(Pairs("all", *map(sum, numbers)))
    return lines


def _paired(suite: str, first: Sequence[EpisodeResult], second: Sequence[EpisodeResult]) -> Pairs:
    mine, its = (
        {result.key: bool(result.success) for result in results if result.success is not None}
        for results in (first, second)
    )
    outcomes = [(mine[key], its[key]) for key in mine if key in its]
    return Pairs(
        suite,
        outcomes.count((True, True)),
        outcomes.count((True, False)),
        outcomes.count((False, True)),
        outcomes.count((False, False)),
        len(mine.keys() ^ its.keys()),
    )


def as_text(pairs: Sequence[Pairs], first: str, second: str) -> str:
    """A table for a terminal."""
    wide = max(len(one.name) for one in pairs)
    lines = [f"A: {first}", f"B: {second}", f"{'':<{wide}}  pairs       A       B   A - B  only A  only B        p"]
    for one in pairs:
        difference = one.first_percent - one.second_percent
        lines.append(
            f"{one.name:<{wide}}  {one.count:>5}  {one.first_percent:>5.1f}%  {one.second_percent:>5.1f}%  "
            f"{difference:>+6.1f}  {one.only_first:>6}  {one.only_second:>6}  {one.p_value:>7.2g}"
        )
    if unpaired := sum(one.unpaired for one in pairs if one.name != "all"):
        lines.append(f"{unpaired} episodes were finished by one of the two only and are left out")
    return "\n".join(lines)
