"""What ``lamp-data build`` says at its end."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.build.dry_run import Estimate, Trial
    from pipeline.build.summary import BuildSummary


def summary_json(summary: "BuildSummary") -> dict[str, Any]:
    """What came of a build, as plain values."""
    values = dataclasses.asdict(summary)
    return {**values, "output": str(summary.output), "quarantined_share": summary.quarantined_share}


def summary_text(summary: "BuildSummary") -> str:
    """What came of a build."""
    windows = summary.kept + sum(summary.rejected.values())
    per_sample = summary.bytes / max(summary.kept, 1) / 1000
    lines = [
        f"{summary.output}: already complete, nothing to do" if summary.already_complete else f"{summary.output}",
        f"  episodes     {summary.episodes} with {summary.frames} frames",
        f"  triplets     {summary.kept} kept of {windows} windows, in {summary.shards} shard(s) of "
        f"{summary.bytes / 1e6:.1f} MB "
        f"in all ({per_sample:.1f} kB a sample)",
    ]
    for reason, count in summary.left_out.items():
        lines.append(f"  left out     {count} {reason}")
    if set(summary.outcomes) - {"unknown"}:
        lines.append(f"  outcomes     {', '.join(f'{count} {name}' for name, count in summary.outcomes.items())}")
    if summary.no_language:
        lines.append(f"  no language  {summary.no_language} episodes, kept")
    if summary.relative_depth:
        lines.append(
            f"  relative     {summary.relative_depth} triplets have depth without a scale: nothing to align it to"
        )
    for device, count in summary.devices.items():
        lines.append(f"  models ran   on {device} for {count} episodes")
    if len(summary.devices) > 1:
        lines.append(
            "               results of different devices differ in their last digits: a build of one kind is exact"
        )
    for reason, count in summary.skipped_cameras.items():
        lines.append(f"  skipped      {count} cameras {reason}")
    for note, count in summary.notes.items():
        lines.append(f"  note         {count} episodes {note}")
    for reason, count in summary.rejected.items():
        lines.append(f"  rejected     {count} {reason}")
    for code, count in summary.quarantined_codes():
        lines.append(f"  quarantined  {count} {code}")
        shown = [q for q in summary.quarantined if q.code == code]
        lines += [f"    {q.message}" for q in shown[:5]]
        if len(shown) > 5:
            lines.append(f"    ... and {len(shown) - 5} more, all in {summary.output}/episodes.jsonl")
    return "\n".join(lines)


def trial_text(trial: "Trial", source: Path, free: int, samples_per_shard: int, in_store: bool = False) -> str:
    """What a build would come to.

    Args:
        free: bytes, of the output's disk; of the one for temporary files where the output is in an object store.
    """
    totals, tried = trial.totals, len(trial.tried)
    basis = "all of them" if trial.exact else "evenly spread"
    shards = -(-round(totals["triplets"].about) // samples_per_shard)
    size = _about(totals["bytes"], 1e-6, " MB", digits=1)
    lines = [
        f"{source}: {trial.listed} episodes listed",
        *(f"  left out     {count} {reason}" for reason, count in trial.left_out.items()),
        *([f"  unreadable   {trial.unreadable} file(s)"] if trial.unreadable else []),
        f"  tried        {tried} of {trial.candidates} episodes, {basis}, in {trial.seconds:.1f} s",
        *(f"    left out   {count} {reason}" for reason, count in trial.outcomes("left out").items()),
        *(f"    quarantined {count} {code}" for code, count in trial.outcomes("quarantined").items()),
        f"  episodes     {_about(totals['episodes'])} with {_about(totals['frames'])} frames",
        f"  windows      {_about(totals['windows'])}",
        *(f"    rejected   {100 * share:.1f}% {reason}" for reason, share in trial.reasons.items()),
        f"  triplets     {_about(totals['triplets'])}",
        f"  size         {size} in {shards} shard(s), as much again for finished episodes until it is done; "
        f"{_free(free, in_store)}",
        f"  time         {_duration(totals['hours'])} with {trial.workers} worker(s) on {trial.where}",
    ]
    if not trial.exact and totals["triplets"].low is None:
        lines.append("  one episode was tried, which does not tell how far the others differ")
    return "\n".join([*lines, "nothing was written"])


def _free(free: int, in_store: bool) -> str:
    return f"{free / 1e6:.0f} MB are free{' on this machine, where each shard is made' if in_store else ''}"


def trials_text(totals: "dict[str, Estimate]", count: int, free: int, in_store: bool = False) -> str:
    """What all builds of a recipe would come to together; see ``trial_text``."""
    return "\n".join(
        [
            f"all {count} datasets",
            f"  triplets     {_about(totals['triplets'])}",
            f"  size         {_about(totals['bytes'], 1e-6, ' MB', digits=1)}; {_free(free, in_store)}",
            f"  time         {_duration(totals['hours'])}, one after the other on this machine",
        ]
    )


def _about(estimate: "Estimate", scale: float = 1, unit: str = "", digits: int = 0) -> str:
    about = f"{estimate.about * scale:,.{digits}f}{unit}"
    if estimate.low is None or estimate.high is None:
        return f"about {about}"
    if estimate.low == estimate.high:
        return about
    return f"about {about} ({estimate.low * scale:,.{digits}f} to {estimate.high * scale:,.{digits}f})"


def _duration(hours: "Estimate") -> str:
    scale, unit = next(((n, u) for n, u in ((1, " h"), (60, " min")) if hours.about * n >= 1), (3600, " s"))
    return _about(hours, scale, unit, 1)
