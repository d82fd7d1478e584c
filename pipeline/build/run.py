"""A whole build: list, make episodes, pack shards, and write the manifest last.

An interrupted build can be run again and continues with what is missing. The resulting bytes do not depend on
interruptions or on the number of workers.
"""

import json
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.build.build_state import StateWriter, kept_state
from pipeline.build.episode_store import (
    EpisodeReport,
    episode_key,
    library_versions,
)
from pipeline.build.executor import Executor, Progress, WorkerDied
from pipeline.build.listing import list_chosen, wanted_episodes
from pipeline.build.making import EpisodeWorkerFactory, make_episodes
from pipeline.build.packing import ShardPlan, ShardWorker, finished_shard, plan_shards, stands
from pipeline.build.replacing import Asked, check_replacing
from pipeline.build.selection import EVERYTHING, BadSelection, Selection, counted
from pipeline.build.statistics import dataset_statistics, local_values
from pipeline.build.store_lock import check_held
from pipeline.build.summary import BuildSummary
from pipeline.build.work_folder import COMPLETE, EPISODE_STORE, WORK, clear_partials, clear_work, locked, remove_stale
from pipeline.episodes.chunks import DEFAULT_CHUNKS, ChunkConfig
from pipeline.errors import BuildError
from pipeline.licences import licences_of
from pipeline.recipe import Recipe
from schemas.file_cache import file_cache
from schemas.files import canonical_json, digest_of, sha256_of, write_whole
from schemas.manifest import EPISODES, NAME, STATISTICS, BadManifest, Manifest, read_manifest, write_statistics
from schemas.parallel import in_parallel
from schemas.shard_formats import ShardFile


@dataclass(frozen=True)
class ShardConfig:
    """How samples are laid out in files.

    Attributes:
        format: one of ``schemas.shard_formats.FORMATS``.
        samples_per_shard: at most.
        seed: of the order in which samples stand in the shards.
    """

    format: str = "webdataset"
    samples_per_shard: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard must be 1 or more, found {self.samples_per_shard}")


def build(
    recipe: Recipe,
    source: Path,
    output: Path,
    shards: ShardConfig,
    executor: Executor,
    progress: Progress,
    selection: Selection = EVERYTHING,
    keep_episodes: bool = False,
    form: str | None = None,
    overwrite: bool = False,
    chunks: ChunkConfig = DEFAULT_CHUNKS,
) -> BuildSummary:
    """Build shards from the episodes below a folder.

    Args:
        recipe: how triplets are made.
        source: the dataset's folder.
        output: where shards and manifest go; a ``.lamp`` folder in it holds finished episodes while they are needed.
        shards: layout.
        executor: where the work runs.
        progress: shows it.
        selection: which episodes.
        keep_episodes: keep finished episodes after a complete build, so that more episodes or another layout
            need no new tracking.
        form: read the episodes that lie in this form, where the folder holds several.
        overwrite: replace what another build has put into the output (``pipeline.build.replacing``).
        chunks: how much of an episode a worker works on at a time.

    Raises:
        FileNotFoundError: there is nothing to build from.
        BadSelection: the selection is not possible, or leaves no episode.
        SeveralForms, UnknownForm: the dataset is there in several forms and none was chosen, or the reader lacks the
            chosen one.
        WouldReplace: the output holds another build, and ``overwrite`` was not given.
        BuildError: there is no triplet, or another build works in the same folder.
        OSError: the output cannot be written.
    """
    listing = list_chosen(recipe, source, selection, form)
    chosen, unreadable = listing.chosen, listing.unreadable
    keys = {ref.digest: episode_key(recipe, ref) for ref in chosen.refs}
    inputs = digest_of([recipe.digest, asdict(shards), selection.as_dict(), [keys[ref.digest] for ref in chosen.refs]])
    with locked(output) as work:
        clear_partials(output, work)
        done = None if unreadable else _complete(output, work, inputs)
        if done is not None:
            if not keep_episodes:
                clear_work(work)
            return done
        asked = Asked.of(recipe, asdict(shards), selection, source)
        if not overwrite and chosen.refs:
            check_replacing(output, asked, chosen.refs, unreadable[0].message if unreadable else None)
        with kept_state(work) as state:
            state.quarantine(*unreadable)
            wanted, silent = wanted_episodes(recipe, selection, chosen.refs, work, executor, progress, state)
            left_out = {**chosen.left_out, **wanted.left_out}
            state.leave_out(left_out)
            if left_out and not wanted.refs and not silent:
                raise BadSelection(
                    f"no episode of {source} is left: {counted(left_out)} of {listing.total} were left out"
                )
            if not overwrite and selection.needs_words:
                check_replacing(output, asked, wanted.refs)
            asked.write(work)
            versions, cache_bytes = library_versions(recipe), file_cache().limit
            factory = EpisodeWorkerFactory(recipe, work / EPISODE_STORE, chunks, cache_bytes, versions)
            summary, reports = make_episodes(factory, wanted.refs, keys, executor, progress, state)
            summary.output, summary.left_out = output, {**left_out, **summary.left_out}
            bad = [*unreadable, *silent, *summary.quarantined]
            summary.quarantined = sorted(bad, key=lambda q: (q.source, q.episode))
            if not any(report.rows for report in reports):
                raise _nothing_came_out(recipe, source, output, reports, summary)
            layout = {**_size_and_seed(shards), "selection": selection.as_dict()}
            plans = plan_shards(reports, recipe.info.name, shards.samples_per_shard, shards.seed)
            written = _pack(plans, _ShardWorkerFactory(output, work, shards.format), executor, progress, state)
            remove_stale(output, work, {shard.name for shard in written}, recipe.info.name)
            clear_partials(output, work)  # of workers that died in this run
            summary.count_shards(written)
            state.enter("statistics", 0)
            _publish(recipe, reports, output, shards.format, layout, written, summary)
            if not summary.quarantined:
                write_whole(work / COMPLETE, canonical_json({"inputs": inputs}))
                if not keep_episodes:
                    clear_work(work)
    return summary


def _size_and_seed(shards: ShardConfig) -> dict[str, int]:
    return {"samples_per_shard": shards.samples_per_shard, "seed": shards.seed}


def _nothing_came_out(
    recipe: Recipe, source: Path, output: Path, reports: list[EpisodeReport], summary: BuildSummary
) -> BuildError:
    """The error of a build without triplets. Reasons are listed by episode, unless a finished build's list is there."""
    said = f"no triplet came out of {source}: {summary.why_nothing()}"
    if (output / NAME).is_file():  # a finished build, whose manifest has the digest of its episodes.jsonl
        return BuildError(said)
    write_whole(output / EPISODES, _episode_lines(recipe, reports, summary))
    return BuildError(f"{said}; {output / EPISODES} names every episode with its reason")


@dataclass(frozen=True)
class _ShardWorkerFactory:
    output: Path
    work: Path
    format: str

    @property
    def records(self) -> Path:
        return self.work / "records"

    def __call__(self) -> ShardWorker:
        return ShardWorker(self.output, self.work / EPISODE_STORE, self.records, self.format)

    def finished(self, plan: ShardPlan) -> ShardFile | None:
        """The shard of a plan if it is complete, else None."""
        return finished_shard(self.output, self.records, plan, self.format)


def _pack(
    plans: list[ShardPlan],
    make_worker: _ShardWorkerFactory,
    executor: Executor,
    progress: Progress,
    state: StateWriter,
) -> list[ShardFile]:
    """All planned shards; missing ones are written.

    The manifest is removed first, which makes the earlier build invalid.

    Raises:
        BuildError: the worker died every time that a shard was tried.
    """
    check_held(make_worker.work)
    (make_worker.output / NAME).unlink(missing_ok=True)
    (make_worker.work / COMPLETE).unlink(missing_ok=True)
    before = in_parallel(make_worker.finished, plans, make_worker.output)
    missing = [plan for plan, shard in zip(plans, before, strict=True) if shard is None]
    state.enter("shards", len(plans), len(plans) - len(missing))
    results = executor.run(make_worker, missing, begun=lambda plan: state.begun(plan.stem)) if missing else iter(())
    for plan, result in progress("shards", len(missing), results):
        state.finished(plan.stem)
        if isinstance(result, WorkerDied):
            raise BuildError(f"shard {plan.stem} could not be written: {result.message}")
    written = [s for s in in_parallel(make_worker.finished, plans, make_worker.output) if s is not None]
    assert len(written) == len(plans), "every planned shard was written"
    return written


def _episode_lines(recipe: Recipe, reports: list[EpisodeReport], summary: BuildSummary) -> bytes:
    """The outcome of each episode, one per line."""
    episodes = (
        {
            **report.ref,
            "digest": report.episode,
            "frames": report.frames,
            "kept": len(report.rows),
            "rejected": report.rejected,
            "rejected_windows": report.rejected_windows,
            "instructions": report.instructions,
            "success": report.success,
            "notes": report.notes,
            "skipped_cameras": report.skipped_cameras,
            **({} if report.device is None else {"device": report.device}),
        }
        for report in reports
    )
    quarantined = ({"dataset": recipe.info.name, "quarantined": asdict(q)} for q in summary.quarantined)
    return b"".join(canonical_json(line) + b"\n" for line in chain(episodes, quarantined))


def _publish(
    recipe: Recipe,
    reports: list[EpisodeReport],
    output: Path,
    format_name: str,
    layout: dict[str, Any],
    shards: list[ShardFile],
    summary: BuildSummary,
) -> None:
    """Write the files beside the shards, the manifest last."""
    write_whole(output / EPISODES, _episode_lines(recipe, reports, summary))
    with local_values(reports, output / WORK / EPISODE_STORE) as store:
        write_statistics(output, dataset_statistics(reports, store))
    manifest = Manifest(
        dataset=asdict(recipe.info),
        recipe=recipe.as_dict(),
        recipe_digest=recipe.digest,
        format=format_name,
        layout=layout,
        licences=licences_of(recipe),
        shards=shards,
        samples=summary.kept,
        counts=summary.counts(),
        files={name: sha256_of(output / name) for name in (EPISODES, STATISTICS)},
    )
    check_held(output / WORK)
    try:
        manifest.write(output)
    except FileExistsError as error:
        raise BuildError(
            f"another build has finished in {output} meanwhile; choose another --output, or run this one again with "
            "--overwrite"
        ) from error


def _complete(output: Path, work: Path, inputs: str) -> BuildSummary | None:
    """The summary of a complete build with exactly these inputs, else None."""
    try:
        if json.loads((work / COMPLETE).read_bytes())["inputs"] != inputs:
            return None
        manifest = read_manifest(output)
    except (FileNotFoundError, ValueError, KeyError, TypeError, BadManifest):
        return None
    beside = all((output / name).is_file() and sha256_of(output / name) == sha for name, sha in manifest.files.items())
    if not beside or not all(in_parallel(partial(stands, output), manifest.shards, output)):
        return None
    return BuildSummary.of_manifest(output, manifest)
