"""``lamp-data status``: how far a build is, from another terminal or machine, and how a finished one came out."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from jobs.cli.build_report import summary_json, summary_text
from jobs.cli.exit_codes import GOES_ON, UsageError
from schemas.durations import duration
from schemas.locations import locate

if TYPE_CHECKING:
    from pipeline.build.build_state import BuildState
    from pipeline.build.summary import BuildSummary

NAMED = 8
"""Tasks under way that are named."""


@dataclass(frozen=True)
class Status:
    """Show how far a build is: done, under way, quarantined, rate and time left; or the summary of a finished one."""

    URLS = ("output",)

    output: tyro.conf.Positional[Path]
    """Folder or URL that a build writes to (--output), or one whose folders hold builds, as of a recipe of several
    datasets."""
    json: bool = False
    """Print JSON."""


def status_command(args: Status) -> int:
    """Print the status of every build in a folder; returns the exit code."""
    output = locate(args.output)
    folders = _builds(output)
    if not folders:
        raise UsageError(f"{output} holds no build, begun or finished; give the folder of --output")
    found = [_status(folder) for folder in folders]
    if args.json:
        values = [values for values, _ in found]
        print(json.dumps(values[0] if folders == [output] else values, indent=1))
    else:
        print("\n".join(text for _, text in found))
    return 0


def _builds(output: Path) -> list[Path]:
    """The folder itself if it holds a build, else those of its folders that do."""
    from pipeline.build.build_state import STATE
    from pipeline.build.work_folder import WORK
    from schemas.manifest import NAME

    def holds(folder: Path) -> bool:
        return (folder / WORK / STATE).is_file() or (folder / NAME).is_file()

    if holds(output):
        return [output]
    return sorted(f for f in output.iterdir() if f.is_dir() and holds(f)) if output.is_dir() else []


def _status(output: Path) -> tuple[dict[str, Any], str]:
    """The status of one build, as plain values and as text."""
    from pipeline.build.build_state import read_state
    from pipeline.build.work_folder import WORK
    from schemas.manifest import NAME

    state, now = read_state(output / WORK), time.time()
    running = state is not None and state.running(now)
    if not running and (output / NAME).is_file():
        return _finished(output)
    if state is None:
        text = f"{output}: begun, by a version that keeps no state that can be read here"
        return {"output": str(output), "status": "unknown"}, text
    status = "under way" if running else "ended"
    values = {
        "output": str(output),
        "status": status,
        **asdict(state),
        "per_second": state.per_second,
        "seconds_left": state.seconds_left if running else None,
        "silent_s": now - state.heard,
    }
    return values, _unfinished(output, state, running, now)


def _finished(output: Path) -> tuple[dict[str, Any], str]:
    """The summary of a finished build, as it was when it finished.

    Raises:
        UsageError: its manifest cannot be read.
    """
    from schemas.manifest import BadManifest

    try:
        summary = finished_summary(output)
    except BadManifest as error:
        raise UsageError(str(error)) from error
    text = summary_text(summary).partition("\n")[2]
    return {"status": "finished", **summary_json(summary)}, f"{output}: finished\n{text}"


def finished_summary(output: Path) -> "BuildSummary":
    """The summary of a finished build from its manifest and, for the quarantined, its list of episodes.

    Raises:
        BadManifest: it cannot be read.
    """
    from pipeline.build.episode_store import Quarantined
    from pipeline.build.summary import BuildSummary
    from schemas.manifest import EPISODES, read_manifest

    manifest = read_manifest(output)
    summary = BuildSummary.of_manifest(output, manifest)
    if manifest.counts.get("quarantined"):
        lines = (json.loads(line) for line in (output / EPISODES).read_bytes().splitlines())
        summary.quarantined = [Quarantined(**line["quarantined"]) for line in lines if "quarantined" in line]
    return summary


def _unfinished(output: Path, state: "BuildState", running: bool, now: float) -> str:
    """The state of a build that runs, or ended before it had finished."""
    heard = f"last heard of {duration(now - state.heard)} ago"
    if running:
        head = f"under way for {duration(now - state.begun)}, process {state.process} on {state.host}, {heard}"
    elif state.ended is None:
        head = f"not running: process {state.process} on {state.host} is gone, {heard}; {GOES_ON}"
    else:
        head = f"not running, ended {duration(now - state.heard)} ago ({state.ended}); {GOES_ON}"
    share = f" ({state.done / state.total:.1%})" if state.total else ""
    lines = [f"{output}: {head}", f"  stage        {state.stage}, {state.done} of {state.total} done{share}"]
    if state.stage == "episodes":
        lines[-1] += ", then shards"
    if running and state.workers:
        longest = sorted(state.under_way.items(), key=lambda item: item[1])[:NAMED]
        lines.append(f"  under way    {state.workers}, those for the longest time:")
        lines += [f"    {name}, {duration(now - since)}" for name, since in longest]
    lines += [f"  left out     {count} {reason}" for reason, count in state.left_out.items()]
    for code, count in state.quarantined.items():
        lines.append(f"  quarantined  {count} {code}")
        lines += [f"    {message}" for message in state.messages.get(code, [])]
    if (rate := state.per_second) is not None:
        lines.append(f"  rate         {_rate(rate)}")
    if running and (left := state.seconds_left) is not None:
        lines.append(f"  time left    {duration(left)} of this stage")
    return "\n".join(lines)


def _rate(per_second: float) -> str:
    for unit, scale in (("second", 1), ("minute", 60)):
        if per_second * scale >= 1:
            return f"{per_second * scale:.3g} a {unit}"
    return f"{per_second * 3600:.3g} an hour"
