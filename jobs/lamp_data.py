"""``lamp-data``: build shards of triplets from robot episodes, and look at them."""

import dataclasses
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jobs.command_line import Failed, UsageError, run_command
from pipeline.evaluation.run import ReplayConfig
from pipeline.quality import QualityConfig
from pipeline.recipe import Recipe, WindowConfig
from schemas.plugins import PluginChoice, configure, load_plugin, parse_options, plugin_names


@dataclass(frozen=True)
class Build:
    """Make shards of (observation, instruction, 3D scene flow) from a folder of robot episodes."""

    dataset: str
    """libero, bridge, droid or interndata-a1, in any form that docs/datasets.md names."""
    input: Path | None = None
    """Folder of the dataset's files. [default: data/<dataset>]"""
    output: Path | None = None
    """Folder for shards and manifest. [default: shards/<dataset>]"""
    flow: str = "tracked"
    """Where flow comes from: a module of pipeline/flow_sources. tracked uses tracker, depth and camera."""
    flow_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..."""
    tracker: str = "lk"
    """Point tracker: a module of pipeline/trackers."""
    tracker_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..."""
    depth: str = "recorded"
    """Depth estimator: a module of pipeline/depth."""
    depth_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..."""
    camera: str = "static"
    """Camera solver: a module of pipeline/cameras."""
    camera_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..."""
    stride: int = 5
    """Frames from one reference frame to the next."""
    horizon: int = 32
    """Steps that each reference frame's keypoints are followed."""
    grid: int = 20
    """Keypoints along each side of the image."""
    action_horizon: int = 32
    """Following actions kept with each sample."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """Thresholds of the quality checks; distances in metres."""
    language: Literal["required", "optional"] = "required"
    """Whether an episode without an instruction is quarantined."""
    jpeg_quality: int = 95
    """Of the pictures in the samples."""
    format: str = "webdataset"
    """Shard format: webdataset (tar) or zarr."""
    samples_per_shard: int = 2048
    """At most."""
    seed: int = 0
    """Of the order in which samples stand in the shards."""
    executor: Literal["ray", "local"] = "ray"
    """ray joins a running cluster or starts one on this machine; local runs in this process. The bytes are the same."""
    executor_options: tuple[str, ...] = ()
    """Options of the executor as NAME=VALUE ..., e.g. workers=8 address=local"""
    limit: int | None = None
    """Take only the first episodes."""
    max_quarantined: float = 0.01
    """Share of episodes that may be unusable before the exit code is 1. The rest is built in any case."""
    keep_parts: bool = False
    """Keep the parts of a finished build, so that more episodes or another layout need no new tracking."""
    json: bool = False
    """Print the summary as JSON."""


@dataclass(frozen=True)
class Inspect:
    """Show what is in shards: counts, sizes, languages, flow, integrity; or one sample with everything. Of a dataset's own folder: form,
    cameras, words, conventions, faults."""

    path: tyro.conf.Positional[Path]
    """A shard (.tar or .zarr), a folder of shards, a manifest, or a folder of a dataset's episodes."""
    sample: str | None = None
    """Show this sample: its key, or its number."""
    picture: Path | None = None
    """Write a PNG: image with flow over it (colour: change of depth), depth, wrist image."""
    html: Path | None = None
    """Write one self-contained page to look through."""
    verify: bool = True
    """Check every checksum; --no-verify skips that."""
    shown: int = 12
    """Samples in the picture or on the page; episodes of a dataset that are looked at."""
    order: Literal["moving", "spread"] = "moving"
    """Which samples those are: the ones that move most, or evenly spread."""
    limit: int = 2000
    """Samples read for the ranges of flow; a larger set is sampled evenly, and it says so."""
    json: bool = False
    """Print JSON."""


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


def build_command(args: Build) -> int:
    """Run a build and say what came of it; the exit code."""
    from jobs.progress import progress_bar
    from pipeline import readers
    from pipeline.build import ShardConfig, build
    from pipeline.execution import BuildError
    from schemas.shard_formats import CorruptShard, UnfitSamples

    if args.dataset in readers.PLANNED:
        known = ", ".join(plugin_names("pipeline.readers"))
        raise UsageError(
            f"--dataset {args.dataset} is recognised, but this version has no reader for it yet; it reads: {known}"
        )
    if args.dataset not in readers.recognised_datasets():
        raise UsageError(f"--dataset must be one of {', '.join(readers.recognised_datasets())}, found {args.dataset!r}")
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit must be 1 or more, found {args.limit}")
    if not 0 <= args.max_quarantined <= 1:
        raise UsageError(f"--max-quarantined is a share between 0 and 1, found {args.max_quarantined}")
    source = args.input or Path("data") / args.dataset
    output = args.output or Path("shards") / args.dataset
    try:
        recipe = recipe_of(args)
        shards = ShardConfig(args.format, args.samples_per_shard, args.seed)
        load_plugin("schemas.shard_formats", args.format)
        options = configure("jobs.executors", args.executor, parse_options(args.executor_options))
    except ValueError as error:
        raise UsageError(str(error)) from error
    executor = load_plugin("jobs.executors", args.executor).build(options)
    try:
        summary = build(
            recipe,
            source.resolve(),
            output.resolve(),
            shards,
            executor,
            progress_bar,
            limit=args.limit,
            keep_parts=args.keep_parts,
        )
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        raise UsageError(str(error)) from error
    except readers.SeveralForms as error:
        raise UsageError(str(error)) from error
    except (BuildError, CorruptShard, UnfitSamples) as error:
        raise Failed(str(error)) from error
    summary.output = output
    print(json.dumps(_summary_json(summary), indent=1) if args.json else _summary_text(summary))
    if summary.quarantined_share > args.max_quarantined:
        raise Failed(
            f"{len(summary.quarantined)} of {summary.episodes + len(summary.quarantined)} episodes were quarantined, more than "
            f"--max-quarantined {args.max_quarantined:g} allows; the rest is built, see {output}/episodes.jsonl"
        )
    return 0


def recipe_of(args: Build) -> Recipe:
    """The recipe that the command line describes.

    Raises:
        ValueError: a plug-in, an option or a value that there is not.
    """
    recipe = Recipe(
        dataset=PluginChoice(args.dataset),
        flow=PluginChoice(args.flow, parse_options(args.flow_options)),
        tracker=PluginChoice(args.tracker, parse_options(args.tracker_options)),
        depth=PluginChoice(args.depth, parse_options(args.depth_options)),
        camera=PluginChoice(args.camera, parse_options(args.camera_options)),
        windows=WindowConfig(args.stride, args.horizon, args.grid, args.action_horizon),
        quality=args.quality,
        language=args.language,
        jpeg_quality=args.jpeg_quality,
    )
    recipe.configs()
    return recipe


def inspect_command(args: Inspect) -> int:
    """Show shards; 1 if anything in them is damaged."""
    from pipeline.inspection import CannotInspect, inspect
    from pipeline.inspection.dataset import is_dataset_folder

    try:
        if is_dataset_folder(args.path):
            return _inspect_dataset(args)
        return inspect(
            args.path,
            sample=args.sample,
            picture=args.picture,
            html=args.html,
            as_json=args.json,
            verify=args.verify,
            limit=args.limit,
            shown=args.shown,
            order=args.order,
        )
    except CannotInspect as error:
        raise (UsageError if error.exit_code == 2 else Failed)(str(error)) from error


def _inspect_dataset(args: Inspect) -> int:
    """Show what a folder of a dataset holds; 1 if some of it cannot be used."""
    from pipeline.inspection.dataset import report_dataset, report_text, report_values

    for name, given in (("sample", args.sample), ("picture", args.picture), ("html", args.html)):
        if given is not None:
            raise UsageError(f"--{name} is for shards, and {args.path} holds a dataset's episodes; build shards first")
    if args.shown < 1:
        raise UsageError(f"--shown must be 1 or more, found {args.shown}")
    report = report_dataset(args.path, args.shown)
    print(json.dumps(report_values(report), indent=1) if args.json else report_text(report))
    return 1 if report.faults else 0


def evaluate_command(args: Evaluate) -> int:
    """Measure labels against exact flow; 1 if nothing could be labelled."""
    from pipeline.evaluation.pictures import check_name, write_worst_clips
    from pipeline.evaluation.report import as_json, as_markdown, as_text
    from pipeline.evaluation.run import choices, evaluate, exact_episodes

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
    if args.picture is not None:
        write_worst_clips(args.picture, results)
    said = json.dumps(as_json(results), indent=1) if args.json else (as_markdown if args.markdown else as_text)(results)
    print(said)
    labelled = {r.choice for r in results if r.metrics is not None}
    if failed := [name for name, _ in sources if name not in labelled]:
        raise Failed(f"no episode could be labelled with {'; '.join(failed)}")
    return 0


def _summary_json(summary) -> dict:
    values = dataclasses.asdict(summary)
    return {**values, "output": str(summary.output), "quarantined_share": summary.quarantined_share}


def _summary_text(summary) -> str:
    windows = summary.kept + sum(summary.rejected.values())
    per_sample = summary.bytes / max(summary.kept, 1) / 1000
    lines = [
        f"{summary.output}: already complete, nothing to do" if summary.already_complete else f"{summary.output}",
        f"  episodes     {summary.episodes} with {summary.frames} frames",
        f"  triplets     {summary.kept} kept of {windows} windows, in {summary.shards} shard(s) of {summary.bytes / 1e6:.1f} MB "
        f"in all ({per_sample:.1f} kB a sample)",
    ]
    for reason, count in summary.rejected.items():
        lines.append(f"  rejected     {count} {reason}")
    for code, count in sorted(Counter(q.code for q in summary.quarantined).items()):
        lines.append(f"  quarantined  {count} {code}")
        shown = [q for q in summary.quarantined if q.code == code]
        lines += [f"    {q.message}" for q in shown[:5]]
        if len(shown) > 5:
            lines.append(f"    ... and {len(shown) - 5} more, all in {summary.output}/episodes.jsonl")
    return "\n".join(lines)


Command = (
    Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
)


def main() -> None:
    """Entry point of ``lamp-data``."""
    args = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="lamp-data",
        description="Robot episodes to shards of (observation, instruction, dense 3D scene flow), a look at them, and how true they are.",
    )
    handlers = {Build: build_command, Inspect: inspect_command, Evaluate: evaluate_command}
    sys.exit(run_command(lambda: handlers[type(args)](args)))


if __name__ == "__main__":
    main()
