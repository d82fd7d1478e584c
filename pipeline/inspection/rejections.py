"""Rejected windows and quarantined episodes of a build, from ``episodes.jsonl``, with a few examples of each reason."""

import heapq
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.inspection.quality_table import thresholds_of
from pipeline.inspection.text import percent
from pipeline.windows.quality import CHECKS, Check
from schemas.files import digest_of
from schemas.manifest import EPISODES, Manifest
from schemas.triplet import Source

OTHER_REASONS = {
    "flow_too_large": "a displacement that the format cannot hold",
    "no_action": "no action follows, or the standard form of the actions lets no window begin there",
}
DAMAGE = (ValueError, TypeError, KeyError, AttributeError)


@dataclass(frozen=True, order=True)
class RejectedWindow:
    """A window that was not kept.

    Attributes:
        order: a digest of the window; sorting by it gives examples from the whole build, the same ones every time.
        digest: the episode's.
        measure: the value that the failed check measured; None if the check measures nothing.
    """

    order: str
    reason: str
    digest: str
    source: Source = field(compare=False)
    measure: float | None = field(compare=False)


@dataclass
class Rejections:
    """Everything that the build left out.

    Attributes:
        windows: number of rejected windows by reason.
        examples: some of them by reason.
        quarantined: the first few messages about episodes and files that could not be used, by code.
        quarantined_counts: number of those by code.
    """

    windows: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[RejectedWindow]] = field(default_factory=dict)
    quarantined: dict[str, list[str]] = field(default_factory=dict)
    quarantined_counts: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.windows or self.quarantined_counts)


def read_rejections(folder: Path, examples: int = 4, messages: int = 5) -> Rejections:
    """Read ``episodes.jsonl`` line by line. Lines that no build writes are skipped: the integrity checks report them.

    Args:
        examples: how many windows of each reason to keep, in a reproducible random choice.
        messages: how many messages of each code to keep.
    """
    found = Rejections()
    path = folder / EPISODES
    if not path.is_file():
        return found
    with open(path, "rb") as file:
        for line in file:
            try:
                _add(found, json.loads(line), examples, messages)
            except DAMAGE:
                continue
    return found


def _add(found: Rejections, line: dict[str, Any], examples: int, messages: int) -> None:
    if "quarantined" in line:
        fault = line["quarantined"]
        found.quarantined_counts[str(fault["code"])] += 1
        said = found.quarantined.setdefault(str(fault["code"]), [])
        if len(said) < messages:
            said.append(str(fault["message"]))
        return
    found.windows.update({str(reason): int(count) for reason, count in line.get("rejected", {}).items()})
    for camera, frame, reason, measure in line.get("rejected_windows", ()):
        dataset, file, episode = (str(line[name]) for name in ("dataset", "source", "episode"))
        source, digest, reason = (
            Source(dataset, file, episode, str(camera), int(frame)),
            str(line["digest"]),
            str(reason),
        )
        order = digest_of([digest, source.camera, source.frame])
        window = RejectedWindow(order, reason, digest, source, None if measure is None else float(measure))
        found.examples[reason] = heapq.nsmallest(examples, [*found.examples.get(reason, []), window])


def reason_words(reason: str, manifest: Manifest | None) -> str:
    """What a reason means, with the build's threshold."""
    check = _check_of(reason)
    if check is None:
        return OTHER_REASONS.get(reason, "")
    limit = _limit_words(check, manifest)
    return check.means + (f", {limit}" if limit else "")


def measure_words(window: RejectedWindow, manifest: Manifest | None) -> str:
    """``3, at least 8 wanted``."""
    check = _check_of(window.reason)
    if check is None or window.measure is None:
        return ""
    limit = _limit_words(check, manifest)
    return _value(check, window.measure) + (f", {limit}" if limit else "")


def _check_of(reason: str) -> Check | None:
    return next((check for check in CHECKS if check.reason == reason), None)


def _limit_words(check: Check, manifest: Manifest | None) -> str:
    threshold = thresholds_of(manifest).get(check.threshold)
    if threshold is None:
        return ""
    return f"{'at least' if check.least else 'at most'} {_value(check, threshold)} wanted"


def _value(check: Check, value: float) -> str:
    return percent(value) if check.means.startswith("share ") else f"{value:g}"
