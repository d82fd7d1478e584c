"""``lamp-data build``: check the options, run the build and report its result."""

import json
import math
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.cli.build_options import Build, dataset_of, recipe_of, selection_of
from jobs.cli.build_report import summary_json, summary_text, trial_text
from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.shipped import shipped_names
from jobs.executors import executor_config, make_executor
from jobs.executors.ray import RayExecutor
from pipeline.build.selection import Selection
from pipeline.recipe import Recipe
from schemas.episode import EpisodeRef
from schemas.errors import MissingDependency
from schemas.file_cache import limit_cache
from schemas.locations import StorePath, locate
from schemas.plugins import is_module_elsewhere, parse_options, plugin_names
from schemas.shard_formats import check_format
from schemas.structured import SUFFIXES
from schemas.suggestions import did_you_mean

if TYPE_CHECKING:
    from pipeline.build.listing import Listing
    from pipeline.build.run import ShardConfig
    from pipeline.episodes.chunks import ChunkConfig


@dataclass(frozen=True)
class Plan:
    """The checked settings of a command line."""

    recipe: Recipe
    selection: Selection
    source: Path
    output: Path
    shards: "ShardConfig"
    executor_options: Any
    chunks: "ChunkConfig"


def build_command(args: Build) -> int:
    """Run one build or all builds of a recipe, or only try them; report the result and return the exit code."""
    if args.recipe is not None:
        from jobs.commands.mixture import mixture_command

        return mixture_command(args)
    said = build_one(args, plan_of(args))
    print(json.dumps(said.values, indent=1) if args.json else said.text)
    if said.failure is not None:
        raise Failed(said.failure)
    return 0


@dataclass(frozen=True)
class Outcome:
    """The result of a build or of a trial.

    Attributes:
        values: for ``--json``.
        failure: why the exit code is 1 although there is a result.
    """

    values: dict[str, Any]
    text: str
    failure: str | None = None


def build_one(args: Build, plan: Plan) -> Outcome:
    """Run the build of one dataset, or only try it.

    Raises:
        UsageError, Failed: it cannot be run.
    """
    from pipeline.build.replacing import WouldReplace
    from pipeline.build.selection import BadSelection
    from pipeline.errors import BuildError, SeveralForms, UnknownForm
    from pipeline.licences import licences_of, restriction_words
    from schemas.shard_formats import CorruptShard, UnfitSamples

    limit_cache(args.cache)
    if (warning := restriction_words(licences_of(plan.recipe))) is not None:
        print(f"lamp-data: {warning}", file=sys.stderr, flush=True)
    try:
        return _try(args, plan) if args.dry_run else _build(args, plan)
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        raise UsageError(str(error)) from error
    except (SeveralForms, UnknownForm, BadSelection, WouldReplace) as error:
        raise UsageError(str(error)) from error
    except (BuildError, CorruptShard, UnfitSamples) as error:
        raise Failed(str(error)) from error


def plan_of(args: Build) -> Plan:
    """Check the options and return the settings of the build.

    Raises:
        UsageError: the build cannot be run with these options.
    """
    from pipeline.build.run import ShardConfig
    from pipeline.episodes.chunks import ChunkConfig

    try:
        dataset = dataset_of(args)
    except ValueError as error:
        raise UsageError(str(error)) from error
    known, named = plugin_names("pipeline.readers"), dataset.partition(":")[0]
    if named not in known and not dataset.endswith(SUFFIXES) and not is_module_elsewhere(named):
        raise UsageError(
            f"--dataset must be one of {', '.join(known)}, or a mapping file ({', '.join(SUFFIXES)}), found {dataset!r}"
            f"{did_you_mean(dataset, [*known, *shipped_names('mappings')])}"
        )
    if not 0 <= args.cache < math.inf:
        raise UsageError(f"--cache is a number of GB, 0 or more, found {args.cache}")
    if not 0 <= args.max_quarantined <= 1:
        raise UsageError(f"--max-quarantined is a share between 0 and 1, found {args.max_quarantined}")
    try:
        recipe = recipe_of(args)
        check_format(args.format)
        check_place(args.format, args.output, args.input)
        return Plan(
            recipe=recipe,
            selection=selection_of(args),
            source=locate(args.input or Path("data") / recipe.info.name).resolve(),
            output=locate(args.output or Path("shards") / recipe.info.name),
            shards=ShardConfig(args.format, args.samples_per_shard, args.seed),
            executor_options=_executor_options(args),
            chunks=ChunkConfig(args.chunk_megapixels),
        )
    except MissingDependency as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def _executor_options(args: Build) -> Any:
    """The executor's config.

    Raises:
        ValueError: an unknown option or value.
    """
    options = parse_options(args.executor_options)
    if args.gpus_per_worker is not None:
        if args.executor == "local":
            raise ValueError(
                f"--gpus-per-worker {args.gpus_per_worker:g} is for --executor ray; --executor local is one process, "
                "which uses one GPU where there is one"
            )
        options["gpus_per_worker"] = str(args.gpus_per_worker)
    return executor_config(args.executor, options)


def check_place(format_name: str, output: Path | None, source: Path | None) -> None:
    """Refuse an output that cannot hold this format, or that lies within the input, which is taken as unchanging.

    Raises:
        UsageError: it cannot.
    """
    if output is None or not isinstance(locate(output), StorePath):
        return
    if source is not None and locate(output).is_relative_to(locate(source)):
        raise UsageError(f"--output {locate(output)} lies within --input {locate(source)}: give a folder beside it")
    if str(locate(output)).startswith(("hf://", "http://", "https://")):
        raise UsageError(
            f"--output {locate(output)} cannot be written file by file: build into a folder or a bucket (s3://, gs://, "
            "az://), then use lamp-data push for the hub"
        )
    if format_name != "webdataset":
        raise UsageError(f"--format {format_name} needs a folder of this machine; stores take --format webdataset")


def _build(args: Build, plan: Plan) -> Outcome:
    from jobs.cli.progress import progress_bar
    from pipeline.build.run import build

    summary = build(
        plan.recipe,
        plan.source,
        plan.output.resolve(),
        plan.shards,
        make_executor(args.executor, plan.executor_options),
        progress_bar,
        plan.selection,
        keep_episodes=args.keep_episodes,
        chunks=plan.chunks,
        form=args.form,
        overwrite=args.overwrite,
    )
    summary.output = plan.output
    failure = None
    if summary.quarantined_share > args.max_quarantined:
        failure = (
            f"{len(summary.quarantined)} of {summary.episodes + len(summary.quarantined)} episodes were quarantined, "
            "more than "
            f"--max-quarantined {args.max_quarantined:g} allows; the rest is built, see {plan.output}/episodes.jsonl"
        )
    return Outcome(summary_json(summary), summary_text(summary), failure)


def _try(args: Build, plan: Plan) -> Outcome:
    from pipeline.build.dry_run import try_build
    from pipeline.build.listing import list_chosen
    from pipeline.build.selection import BadSelection, counted

    listing = list_chosen(plan.recipe, plan.source, plan.selection, args.form)
    if not listing.chosen.refs:
        raise BadSelection(
            f"no episode of {plan.source} is left to try: {counted(listing.chosen.left_out) or 'none is listed'}"
        )
    trial = try_build(plan.recipe, listing, plan.selection, chunks=plan.chunks, **_where_tried(args, plan, listing))
    free = free_bytes(plan.output.resolve())
    failure = None
    if all(tried.outcome == "quarantined" for tried in trial.tried):
        failure = f"none of the episodes tried could be used; the first: {trial.tried[0].message}"
    refused = None if args.overwrite else _replaces(plan, listing.chosen.refs)
    text = trial_text(trial, plan.source, free, args.samples_per_shard, isinstance(plan.output, StorePath))
    if refused is not None:
        text += f"\nthe build would be refused: {refused}"
    return Outcome({**trial.as_dict(), "free_bytes": free, "refused": refused}, text, failure)


def _where_tried(args: Build, plan: Plan, listing: "Listing") -> dict[str, Any]:
    """Where a trial runs, and the number of workers that the build would have: on the Ray cluster that it would join,
    else in this process.
    """
    if args.executor == "local":
        return {"workers": 1}
    executor = RayExecutor(plan.executor_options)
    capacity = executor.capacity(len(listing.chosen.refs), plan.recipe.device)
    if capacity is None:
        return {"workers": plan.executor_options.workers}
    where = (
        f"{capacity.where}, which has {capacity.nodes} node(s), {capacity.cpus:g} CPU(s) and {capacity.gpus:g} GPU(s)"
    )
    return {"workers": capacity.workers, "executor": executor, "where": where}


def _replaces(plan: Plan, refs: list[EpisodeRef]) -> str | None:
    """Why the build would refuse to replace what the output folder holds; None if it would not."""
    from pipeline.build.replacing import Asked, WouldReplace, check_replacing

    asked = Asked.of(plan.recipe, vars(plan.shards), plan.selection, plan.source)
    try:
        check_replacing(plan.output, asked, refs)
    except WouldReplace as error:
        return str(error)
    return None


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds the folder, which need not exist yet; of the disk for temporary files, where a
    shard for a store is made."""
    if isinstance(folder, StorePath):
        return shutil.disk_usage(tempfile.gettempdir()).free
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
