"""``lamp-data evaluate``: measure the accuracy of flow."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jobs.cli.exit_codes import Failed, UsageError, refusing
from jobs.cli.help_text import optional_in_words
from jobs.cli.shipped import dataset_said
from pipeline.evaluation.simulator_truth import ReplayConfig
from pipeline.recipe import QualityConfig
from schemas.errors import MissingDependency
from schemas.flow_size import GRID, HORIZON
from schemas.plugins import PluginChoice

if TYPE_CHECKING:
    from pipeline.evaluation.run import Evaluation
    from pipeline.recipe import Recipe


@dataclass(frozen=True)
@optional_in_words
class Evaluate:
    """Measure how true flow is against exact flow; every combination of the parts named. A part is NAME or
    NAME:OPTION=VALUE,...
    """

    truth: tuple[Literal["rigid-world", "files", "simulator", "none"], ...] = ()
    """rigid-world is synthetic and needs nothing; files are LIBERO episodes with exact flow (*_gt.npz) beside them;
    simulator replays the recorded states of --dataset; none checks the labels of any --dataset against themselves
    (docs/flow-accuracy.md). [default: rigid-world, and files where --input or data/libero is there]"""
    dataset: str = "libero"
    """Of --truth simulator: libero, or robosuite for the HDF5 files of any robosuite task; robosuite:camera=frontview
    for another camera. Of --truth none: any dataset that build takes, or a mapping file.
    """
    input: Path | None = None
    """Folder of those. [default: data/<dataset>]"""
    replay: Annotated[ReplayConfig, tyro.conf.arg(constructor=refusing(ReplayConfig))] = field(
        default_factory=ReplayConfig
    )
    """Of --truth simulator."""
    flow: tuple[str, ...] = ("tracked",)
    """Modules of pipeline/flow_sources."""
    tracker: tuple[str, ...] = ()
    """Modules of pipeline/trackers. [default: lk; with --truth none lk and dis, which are compared]"""
    depth: tuple[str, ...] = ("recorded",)
    """Modules of pipeline/depth."""
    camera: tuple[str, ...] = ("static",)
    """Modules of pipeline/cameras."""
    quality: Annotated[QualityConfig, tyro.conf.arg(constructor=refusing(QualityConfig))] = field(
        default_factory=QualityConfig
    )
    """Thresholds of the quality checks; distances in metres."""
    horizon_steps: Annotated[int | None, tyro.conf.arg(aliases=["--horizon"])] = None
    """Steps that points are followed; files have their own. [default: 32]"""
    grid: int | None = None
    """Keypoints along each side of the image; files have their own. [default: 20]"""
    stride: int = 8
    """Of --truth none: frames from one window to the next."""
    limit: int | None = None
    """Take only the first episodes; with exact flow, except with --truth none."""
    picture: Path | None = None
    """Write a sheet of the bodies with the most wrong labels; of the clips where bodies are not known."""
    markdown: bool = False
    """Print the tables as Markdown."""
    json: bool = False
    """Print JSON."""


def evaluate_command(args: Evaluate) -> int:
    """Measure labels against exact flow; 1 if nothing could be labelled."""
    from pipeline.errors import BuildError
    from pipeline.evaluation.pictures import check_name, write_worst_bodies
    from pipeline.evaluation.report import as_json, as_markdown, as_text

    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit must be 1 or more, found {args.limit}")
    try:
        if args.picture is not None:
            check_name(args.picture)
        if "none" in args.truth:
            return _checked_alone(args)
        results = _evaluated(args)
    except (BuildError, MissingDependency) as error:
        raise Failed(str(error)) from error
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    if args.picture is not None:
        write_worst_bodies(args.picture, results)
    said = json.dumps(as_json(results), indent=1) if args.json else (as_markdown if args.markdown else as_text)(results)
    print(said)
    if all(r.metrics is None for r in results):
        raise Failed("exact flow could be had of no episode; why is said above, or under refused in the JSON")
    labelled = {r.choice for r in results if r.metrics is not None and r.metrics["labelled"]}
    if failed := [choice for choice in dict.fromkeys(r.choice for r in results) if choice not in labelled]:
        raise Failed(f"no episode could be labelled with {'; '.join(failed)}")
    return 0


def _evaluated(args: Evaluate) -> "list[Evaluation]":
    """Evaluate every combination of parts on every kind of exact flow.

    Raises:
        ValueError, FileNotFoundError: a part, option or file that does not exist.
        BuildError: something that a part needs is not available.
    """
    from pipeline.evaluation.run import evaluate, exact_episodes
    from pipeline.evaluation.sweep import sources

    dataset = PluginChoice.parse(args.dataset)
    dataset.configure("pipeline.readers")
    if dataset.name != "libero" and ("files" in args.truth or not args.truth):
        raise ValueError(
            f"--dataset {dataset} is for --truth simulator, and --truth files is LIBERO's: leave files out"
        )
    root = args.input or Path("data") / dataset.name
    truths = args.truth or (
        ("rigid-world", "files") if dataset.name == "libero" and root.is_dir() else ("rigid-world",)
    )
    recipes = _recipes(args, ("lk",))
    built, results = sources(recipes), []
    sizes = (args.horizon_steps, args.grid)
    if "files" in truths and sizes != (None, None):
        raise ValueError("--horizon-steps and --grid are for the other truths: the files of exact flow have their own")
    horizon, grid = _sizes(args)
    for truth in dict.fromkeys(truths):
        episodes = exact_episodes(truth, root, args.limit, args.replay, dataset, horizon, grid)
        results += evaluate(truth, episodes, built, args.quality)
    return results


def _checked_alone(args: Evaluate) -> int:
    """Check labels without exact flow; 1 if no episode could be checked.

    Raises:
        ValueError, FileNotFoundError, BuildError: as ``_evaluated``.
    """
    from pipeline.readers import dataset_choice
    from pipeline.self_check.pictures import write_doubtful
    from pipeline.self_check.report import as_json, as_markdown, as_text
    from pipeline.self_check.run import CheckConfig, candidates_of, episodes_of, self_check

    if len(set(args.truth)) > 1:
        raise ValueError("--truth none is for data without exact flow: it cannot stand beside another --truth")
    said = PluginChoice.parse(dataset_said(args.dataset))
    dataset = dataset_choice(said.name, said.options)
    dataset.configure("pipeline.readers")
    root = args.input or Path("data") / dataset.name
    recipes = _recipes(args, ("lk", "dis"))
    horizon, grid = _sizes(args)
    result = self_check(
        args.dataset,
        episodes_of(dataset, root, args.limit),
        candidates_of(recipes),
        CheckConfig(horizon, args.stride, grid),
        args.quality,
    )
    if args.picture is not None and result.worst:
        write_doubtful(args.picture, result.worst)
    print(json.dumps(as_json(result), indent=1) if args.json else (as_markdown if args.markdown else as_text)(result))
    if result.metrics is None:
        raise Failed("no episode could be checked; why is said above, or under refused in the JSON")
    return 0


def _sizes(args: Evaluate) -> tuple[int, int]:
    """Horizon and grid.

    Raises:
        ValueError: a number below 1.
    """
    for option, value in (("horizon-steps", args.horizon_steps), ("grid", args.grid), ("stride", args.stride)):
        if value is not None and value < 1:
            raise ValueError(f"--{option} must be 1 or more, found {value}")
    return (
        HORIZON if args.horizon_steps is None else args.horizon_steps,
        GRID if args.grid is None else args.grid,
    )


def _recipes(args: Evaluate, trackers: tuple[str, ...]) -> "dict[str, Recipe]":
    """Every combination of the parts, by name; says first who may use what is made with them.

    Args:
        trackers: where none are named.
    """
    from pipeline.evaluation.sweep import combinations, licences
    from pipeline.licences import restriction_words

    named = {"tracker": args.tracker or trackers, "depth": args.depth, "camera": args.camera}
    parts = {name: [PluginChoice.parse(t) for t in said] for name, said in named.items()}
    recipes = combinations([PluginChoice.parse(t) for t in args.flow], parts)
    if (warning := restriction_words(licences(recipes.values()), "what is made with these parts is")) is not None:
        print(f"lamp-data: {warning}", file=sys.stderr, flush=True)
    return recipes
