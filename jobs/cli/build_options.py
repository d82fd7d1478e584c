"""What ``lamp-data build`` may be asked for, and the recipe that the answers describe.

Each base class of ``Build`` is a group of options, shown in a box of its own by ``lamp-data build --help``.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jobs.cli.exit_codes import refusing
from jobs.cli.help_text import names_of, optional_in_words
from jobs.cli.shipped import dataset_said
from pipeline.build.selection import Selection
from pipeline.readers import dataset_choice, dataset_info
from pipeline.recipe import STRIDE, STRIDE_WITHOUT_FLOW, QualityConfig, Recipe, WindowConfig, measures_flow
from schemas.file_cache import DEFAULT_GIGABYTES
from schemas.generated_instructions import GeneratedFile
from schemas.plugins import PluginChoice, parse_options
from schemas.scene_flow import HORIZON
from schemas.structured import SUFFIXES


@dataclass(frozen=True)
@optional_in_words
class InputOptions:
    """What is read. lamp-data parts readers lists every dataset's options."""

    dataset: str | None = None
    """libero, bridge, droid, interndata-a1, robosuite or video, in any form that docs/datasets.md names; or a mapping
    file, my.yaml, for any other LeRobot or RLDS dataset (docs/your-own-dataset.md), or the name of a shipped one."""
    recipe: Path | None = None
    """Instead of a dataset: a file that names several, with their options and weights (docs/mixtures.md), or the name
    of a shipped one. Each dataset is built into a folder of its own below --output, from one below --input."""
    input: Path | None = None
    """Folder of the dataset's files, or its URL: s3://, gs://, az://, https:// or hf://datasets/OWNER/NAME
    (docs/object-stores.md). [default: data/<dataset>]"""
    dataset_options: tuple[str, ...] = ()
    """Options of the dataset's reader as NAME=VALUE ..."""
    form: str | None = None
    """Read only this form, where the folder holds the dataset in several: rlds, lerobot, hdf5 ..."""


@dataclass(frozen=True)
@optional_in_words
class EpisodeOptions:
    """Which episodes are taken: those that pass all of these."""

    episodes: tuple[str, ...] = ()
    """Take only these: numbers and ranges in the folder's listing, from 0 (0-9,20), and names (demo_3, a file,
    file:demo_3).
    """
    split: str | None = None
    """Take only this split, e.g. train, where the folder names any (RLDS, LeRobot)."""
    match: str | None = None
    """Take only episodes of which an instruction, or the file's name, contains this text."""
    success: Literal["any", "succeeded", "not-failed"] = "any"
    """Take only episodes that the data call a success; not-failed takes those of unknown outcome too."""
    language: Literal["required", "optional"] = "required"
    """Whether an episode without an instruction is left out, or kept with samples that say so."""
    limit: int | None = None
    """Take only the first so many of those."""


@dataclass(frozen=True)
@optional_in_words
class FlowOptions:
    """How flow is measured. Each part is a plug-in; lamp-data parts NAME lists its options with their meaning."""

    flow: Annotated[str, tyro.conf.arg(metavar=names_of("pipeline.flow_sources"))] = "tracked"
    """Where flow comes from. tracked uses tracker, depth and camera; none measures no flow, for data of the policy
    alone: every frame becomes a sample, and neither depth nor tracking is needed."""
    flow_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..."""
    tracker: Annotated[str, tyro.conf.arg(metavar=names_of("pipeline.trackers"))] = "lk"
    """Point tracker."""
    tracker_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..."""
    depth: Annotated[str, tyro.conf.arg(metavar=names_of("pipeline.depth"))] = "recorded"
    """Depth estimator."""
    depth_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..."""
    camera: Annotated[str, tyro.conf.arg(metavar=names_of("pipeline.cameras"))] = "static"
    """Camera solver."""
    camera_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..."""


@dataclass(frozen=True)
@optional_in_words
class WindowOptions:
    """Which windows are made of an episode."""

    cameras: tuple[str, ...] = ("primary",)
    """Cameras whose windows are made: primary, all (those that cannot be used are skipped and counted), or names ..."""
    stride: int | None = None
    """Frames from one reference frame to the next. [default: 5, with --flow none 1]"""
    horizon_steps: Annotated[int | None, tyro.conf.arg(aliases=["--horizon"])] = None
    """Steps that each reference frame's keypoints are followed, a frame each. [default: 32]"""
    horizon_seconds: float | None = None
    """Instead: seconds that 32 steps cover, whatever the frames per second; positions between frames are interpolated.
    """
    grid: int = 20
    """Keypoints along each side of the image."""
    keypoints: Literal["regular", "adaptive"] = "regular"
    """regular is the grid; adaptive adds as many points, denser where things move and at depth edges, which samples
    hold beside the grid's (docs/building-shards.md)."""


@dataclass(frozen=True)
@optional_in_words
class SampleOptions:
    """What a sample holds besides flow."""

    action_horizon: int = 32
    """Following actions kept with each sample."""
    actions: Annotated[str, tyro.conf.arg(metavar=f"{{standard,{names_of('pipeline.actions')[1:]}")] = "standard"
    """Standard form made of the actions, beside the raw one: standard is the dataset's own; raw makes none."""
    action_options: tuple[str, ...] = ()
    """Its options as NAME=VALUE ..., e.g. relabel=no"""
    generated_instructions: Path | None = None
    """File of lamp-data instruct: samples carry its texts too, tagged as generated. [default: none]"""
    jpeg_quality: int = 95
    """Of the pictures in the samples."""


@dataclass(frozen=True)
@optional_in_words
class ShardOptions:
    """How samples are written."""

    output: Path | None = None
    """Folder for shards and manifest. [default: shards/<dataset>]"""
    format: Annotated[str, tyro.conf.arg(metavar=names_of("schemas.shard_formats"))] = "webdataset"
    """Shard format: webdataset (tar) or zarr."""
    samples_per_shard: int = 2048
    """At most."""
    seed: int = 0
    """Of the order in which samples stand in the shards."""
    overwrite: bool = False
    """Replace what another build has put into --output; without it, such a folder is refused."""


@dataclass(frozen=True)
@optional_in_words
class RunOptions:
    """How the build runs; none of these changes a byte of the samples."""

    executor: Literal["ray", "local"] = "ray"
    """ray joins a running cluster or starts one on this machine; local runs in this process, on one GPU. The bytes are
    the same."""
    executor_options: tuple[str, ...] = ()
    """Options of the executor as NAME=VALUE ..., e.g. workers=8 address=local"""
    gpus_per_worker: float | None = None
    """GPUs of each worker that runs a model, with --executor ray: 0.5 puts two on every GPU of every node, 0 runs
    models on CPUs. [default: 1 where the cluster has GPUs]"""
    chunk_megapixels: float = 32.0
    """Pixels, in millions, of a camera's frames that are worked on at a time, some 20 bytes each; longer episodes are
    worked on in chunks. Less for less memory; the samples are the same."""
    max_quarantined: float = 0.01
    """Share of episodes that may be unusable before the exit code is 1. The rest is built in any case."""
    cache: float = DEFAULT_GIGABYTES
    """GB of each machine's disk for files of an --input that is a URL (docs/object-stores.md)."""
    keep_episodes: bool = False
    """Keep the finished episodes of a complete build, so that more episodes or another layout need no new tracking."""
    dry_run: bool = False
    """Write nothing: say how many triplets, bytes and hours it would come to, from a trial of some 20 seconds."""
    json: bool = False
    """Print the summary as JSON."""


@dataclass(frozen=True)
class Build(RunOptions, ShardOptions, SampleOptions, WindowOptions, FlowOptions, EpisodeOptions, InputOptions):
    """Make shards of (observation, instruction, 3D scene flow) from a folder of robot episodes."""

    URLS = ("input", "output")
    quality: Annotated[QualityConfig, tyro.conf.arg(constructor=refusing(QualityConfig))] = field(
        default_factory=QualityConfig
    )
    """Thresholds of the quality checks; distances in metres."""


def dataset_of(args: Build) -> str:
    """The dataset that the command line names.

    Raises:
        ValueError: it names none.
    """
    if args.dataset is None:
        raise ValueError(
            "--dataset is missing: a dataset or a mapping file; or, in its place, --recipe with a file of several"
        )
    return dataset_said(args.dataset)


def reader_of(args: Build) -> PluginChoice:
    """The reader with its options.

    Raises:
        ValueError: an option has no ``=``, or is given twice.
    """
    name = dataset_of(args)
    if name.endswith(SUFFIXES):
        return dataset_choice(name, parse_options(args.dataset_options))
    return PluginChoice.said(name, args.dataset_options)


def selection_of(args: Build) -> Selection:
    """Which episodes the command line wants.

    Raises:
        ValueError: a value that makes no sense.
    """
    return Selection(args.episodes, args.split, args.match, args.success, args.limit)


def generated_file(path: Path | None, dataset: PluginChoice) -> GeneratedFile | None:
    """The generated instructions that the command line wants.

    Raises:
        ValueError: the file cannot be used for this dataset.
    """
    if path is None:
        return None
    return GeneratedFile.at(path, dataset_info(dataset.name, dataset.configure("pipeline.readers")).name)


def windows_of(args: Build) -> WindowConfig:
    """Which windows the command line wants.

    Raises:
        ValueError: a value that makes no sense, or two that exclude each other.
    """
    if args.horizon_steps is not None and args.horizon_seconds is not None:
        raise ValueError(
            f"--horizon-steps {args.horizon_steps} and --horizon-seconds {args.horizon_seconds:g} exclude each "
            "other: steps are frames, "
            f"or {HORIZON} steps cover the seconds"
        )
    steps = HORIZON if args.horizon_steps is None else args.horizon_steps
    default = STRIDE if measures_flow(args.flow) else STRIDE_WITHOUT_FLOW
    stride = default if args.stride is None else args.stride
    return WindowConfig(stride, steps, args.grid, args.action_horizon, args.horizon_seconds, args.keypoints)


def recipe_of(args: Build) -> Recipe:
    """The recipe that the command line describes.

    Raises:
        ValueError: a plug-in, an option or a value that there is not.
    """
    dataset = reader_of(args)
    recipe = Recipe(
        dataset=dataset,
        flow=PluginChoice.said(args.flow, args.flow_options),
        tracker=PluginChoice.said(args.tracker, args.tracker_options),
        depth=PluginChoice.said(args.depth, args.depth_options),
        camera=PluginChoice.said(args.camera, args.camera_options),
        windows=windows_of(args),
        actions=PluginChoice.said(args.actions, args.action_options),
        cameras=args.cameras,
        quality=args.quality,
        language=args.language,
        jpeg_quality=args.jpeg_quality,
        generated_instructions=generated_file(args.generated_instructions, dataset),
    )
    recipe.configs()
    return recipe
