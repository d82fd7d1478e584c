"""Success rates with their intervals: by task, by suite and over a benchmark, beside the paper's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lamp_model.closed_loop.benchmarks import SUITES
from lamp_model.closed_loop.paper import published
from lamp_model.closed_loop.results import EpisodeResult, by_suite
from lamp_model.closed_loop.statistics import wilson

SPENT = ("physics", "rendering", "policy", "reset")


@dataclass(frozen=True)
class Rate:
    """A success rate.

    Attributes:
        name: the task's text, the suite or the benchmark.
        errors: episodes that came to no outcome; they are not among ``episodes``.
        paper: the published rate in per cent, where there is one.
        lifted: in how many of ``looked_at`` episodes an object that the goal wants elsewhere was lifted.
    """

    name: str
    successes: int
    episodes: int
    errors: int = 0
    paper: float | None = None
    lifted: int = 0
    looked_at: int = 0

    @property
    def percent(self) -> float | None:
        """The rate in per cent; None without an episode."""
        return 100 * self.successes / self.episodes if self.episodes else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval in per cent (Wilson)."""
        if not self.episodes:
            return None
        low, high = wilson(self.successes, self.episodes)
        return 100 * low, 100 * high


@dataclass(frozen=True)
class SuiteSummary:
    """A suite's rates."""

    suite: str
    whole: Rate
    tasks: tuple[Rate, ...]


@dataclass(frozen=True)
class Summary:
    """What a folder of results comes to.

    Attributes:
        suites: in order of their names.
        groups: over all suites of a benchmark, where there is more than one; every episode counts once.
        seconds: mean of an episode by what they were spent on.
    """

    suites: tuple[SuiteSummary, ...]
    groups: tuple[Rate, ...]
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "suites": [{**_rate(one.whole), "tasks": [_rate(task) for task in one.tasks]} for one in self.suites],
            "benchmarks": [_rate(rate) for rate in self.groups],
            "seconds_per_episode": self.seconds,
        }


def summarise(results: Sequence[EpisodeResult], cell: str = "lamp") -> Summary:
    """The rates of results. ``cell`` says whose published figures stand beside them."""
    suites = by_suite(results)
    summaries = tuple(_suite(name, some, cell) for name, some in suites.items())
    groups: dict[str, list[str]] = {}
    for name in suites:
        group = SUITES[name].group if name in SUITES else name
        for wider in dict.fromkeys((group, group.partition(":")[0])):
            groups.setdefault(wider, []).append(name)
    over = tuple(
        rate_of(group, [r for name in names for r in suites[name]], published(group, cell))
        for group, names in groups.items()
        if len(names) > 1
    )
    return Summary(summaries, over, _seconds(results))


def rate_of(name: str, results: Sequence[EpisodeResult], paper: float | None = None) -> Rate:
    """The rate of some results."""
    ended = [result for result in results if result.success is not None]
    successes = sum(bool(result.success) for result in ended)
    lifted = [result.lifted for result in ended if result.lifted is not None]
    return Rate(name, successes, len(ended), len(results) - len(ended), paper, sum(lifted), len(lifted))


def _suite(name: str, results: Sequence[EpisodeResult], cell: str) -> SuiteSummary:
    tasks: dict[int, list[EpisodeResult]] = {}
    for result in results:
        tasks.setdefault(result.task, []).append(result)
    rates = tuple(rate_of(f"{number}: {some[0].text}", some) for number, some in sorted(tasks.items()))
    return SuiteSummary(name, rate_of(name, results, published(name, cell)), rates)


def _seconds(results: Sequence[EpisodeResult]) -> dict[str, float]:
    ended = [result.seconds for result in results if result.seconds]
    names = dict.fromkeys(name for seconds in ended for name in seconds)
    return {name: round(sum(one.get(name, 0.0) for one in ended) / len(ended), 3) for name in names}


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "name": rate.name, "successes": rate.successes, "episodes": rate.episodes, "errors": rate.errors,
        "percent": rate.percent, "interval_percent": rate.interval, "paper_percent": rate.paper,
        "lifted": rate.lifted, "looked_at": rate.looked_at,
    }  # fmt: skip


def as_text(summary: Summary, tasks: bool = True) -> str:
    """A table for a terminal."""
    rows: list[tuple[str, Rate]] = []
    for one in summary.suites:
        rows.append((one.suite, one.whole))
        if tasks:
            rows += [(f"  {task.name}", task) for task in one.tasks]
    rows += [(rate.name, rate) for rate in summary.groups]
    wide = min(max((len(name) for name, _ in rows), default=4), 70)
    lines = [f"{'':<{wide}}  success     rate   95% interval   paper"]
    lines += [f"{name[:wide]:<{wide}}  {row_text(rate)}" for name, rate in rows]
    lines += [
        f"{one.suite}: an object of the goal was lifted in {one.whole.lifted} of {one.whole.looked_at}"
        for one in summary.suites
        if one.whole.looked_at
    ]
    if seconds := summary.seconds:
        total = seconds.get("total") or sum(seconds.values()) or 1.0
        shares = ", ".join(f"{name} {100 * seconds[name] / total:.0f}%" for name in SPENT if name in seconds)
        lines.append(f"an episode took {total:.1f} s on average: {shares}")
    if errors := sum(one.whole.errors for one in summary.suites):
        lines.append(f"{errors} episodes came to no outcome and are not counted: the simulator or the server failed")
    return "\n".join(lines)


def row_text(rate: Rate) -> str:
    """``3/10   30.0%   10.8 to 60.3%   98.3%``, each in its column."""
    counts = f"{rate.successes}/{rate.episodes}"
    percent, interval = rate.percent, rate.interval
    middle = f"{'-':>7}   {'-':>13}" if percent is None or interval is None else (
        f"{percent:>6.1f}%   {f'{interval[0]:.1f} to {interval[1]:.1f}%':>13}"
    )  # fmt: skip
    return f"{counts:>7}  {middle}   {'' if rate.paper is None else f'{rate.paper:.1f}%'}".rstrip()
