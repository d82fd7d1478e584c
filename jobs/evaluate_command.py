"""``lamp-data evaluate``: how true flow is."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jobs.command_line import Failed, UsageError
from pipeline.evaluation.run import ReplayConfig
from pipeline.quality import QualityConfig
from schemas.plugins import PluginChoice


@dataclass(frozen=True)
class Evaluate:
    """Measure how true flow is against exact flow; every combination of the parts named. A part is NAME or NAME:OPTION=VALUE,..."""

    truth: tuple[Literal["rigid-world", "files", "simulator"], ...] = ("rigid-world", "files")
    """rigid-world is synthetic and needs nothing; files are LIBERO episodes with exact flow (*_gt.npz) beside them; simulator
    replays LIBERO episodes."""
    input: Path = Path("data/libero")
    """Folder of those."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    """Of --truth simulator."""
    flow: tuple[str, ...] = ("tracked",)
    """Modules of pipeline/flow_sources."""
    tracker: tuple[str, ...] = ("lk",)
    """Modules of pipeline/trackers."""
    depth: tuple[str, ...] = ("recorded",)
    """Modules of pipeline/depth."""
    camera: tuple[str, ...] = ("static",)
    """Modules of pipeline/cameras."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """Thresholds of the quality checks; distances in metres."""
    limit: int | None = None
    """Take only the first episodes with exact flow."""
    picture: Path | None = None
    """Write a sheet of the clips with the most wrong labels."""
    markdown: bool = False
    """Print the tables as Markdown."""
    json: bool = False
    """Print JSON."""


def evaluate_command(args: Evaluate) -> int:
    """Measure labels against exact flow; 1 if nothing could be labelled."""
    from pipeline.evaluation.pictures import check_name, write_worst_clips
    from pipeline.evaluation.report import as_json, as_markdown, as_text
    from pipeline.evaluation.run import choices, evaluate, exact_episodes
    from pipeline.execution import BuildError

    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit must be 1 or more, found {args.limit}")
    try:
        if args.picture is not None:
            check_name(args.picture)
        parts = {name: [PluginChoice.parse(t) for t in getattr(args, name)] for name in ("tracker", "depth", "camera")}
        sources = list(choices([PluginChoice.parse(t) for t in args.flow], parts))
        results = []
        for truth in dict.fromkeys(args.truth):
            results += evaluate(
                truth, exact_episodes(truth, args.input, args.limit, args.replay), sources, args.quality
            )
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    except BuildError as error:
        raise Failed(str(error)) from error
    if args.picture is not None:
        write_worst_clips(args.picture, results)
    said = json.dumps(as_json(results), indent=1) if args.json else (as_markdown if args.markdown else as_text)(results)
    print(said)
    labelled = {r.choice for r in results if r.metrics is not None}
    if failed := [name for name, _ in sources if name not in labelled]:
        raise Failed(f"no episode could be labelled with {'; '.join(failed)}")
    return 0
