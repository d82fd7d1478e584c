"""``lamp-data evaluate``: measure the accuracy of flow."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jobs.cli.exit_codes import Failed, UsageError, refusing
from jobs.cli.help_text import optional_in_words
from pipeline.evaluation.simulator_truth import ReplayConfig
from pipeline.recipe import QualityConfig
from schemas.errors import MissingDependency
from schemas.plugins import PluginChoice

if TYPE_CHECKING:
    from pipeline.evaluation.run import Evaluation


@dataclass(frozen=True)
@optional_in_words
class Evaluate:
    """Measure how true flow is against exact flow; every combination of the parts named. A part is NAME or
    NAME:OPTION=VALUE,...
    """

    truth: tuple[Literal["rigid-world", "files", "simulator"], ...] = ()
    """rigid-world is synthetic and needs nothing; files are LIBERO episodes with exact flow (*_gt.npz) beside them;
    simulator replays the recorded states of --dataset. [default: rigid-world, and files where --input or data/libero
    is there]"""
    dataset: str = "libero"
    """Of --truth simulator: libero, or robosuite for the HDF5 files of any robosuite task; robosuite:camera=frontview
    for another camera.
    """
    input: Path | None = None
    """Folder of those. [default: data/<dataset>]"""
    replay: Annotated[ReplayConfig, tyro.conf.arg(constructor=refusing(ReplayConfig))] = field(
        default_factory=ReplayConfig
    )
    """Of --truth simulator."""
    flow: tuple[str, ...] = ("tracked",)
    """Modules of pipeline/flow_sources."""
    tracker: tuple[str, ...] = ("lk",)
    """Modules of pipeline/trackers."""
    depth: tuple[str, ...] = ("recorded",)
    """Modules of pipeline/depth."""
    camera: tuple[str, ...] = ("static",)
    """Modules of pipeline/cameras."""
    quality: Annotated[QualityConfig, tyro.conf.arg(constructor=refusing(QualityConfig))] = field(
        default_factory=QualityConfig
    )
    """Thresholds of the quality checks; distances in metres."""
    limit: int | None = None
    """Take only the first episodes with exact flow."""
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
    from pipeline.evaluation.sweep import combinations, licences, sources
    from pipeline.licences import restriction_words

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
    parts = {name: [PluginChoice.parse(t) for t in getattr(args, name)] for name in ("tracker", "depth", "camera")}
    recipes = combinations([PluginChoice.parse(t) for t in args.flow], parts)
    if (warning := restriction_words(licences(recipes.values()), "what is made with these parts is")) is not None:
        print(f"lamp-data: {warning}", file=sys.stderr, flush=True)
    built, results = sources(recipes), []
    for truth in dict.fromkeys(truths):
        episodes = exact_episodes(truth, root, args.limit, args.replay, dataset)
        results += evaluate(truth, episodes, built, args.quality)
    return results
