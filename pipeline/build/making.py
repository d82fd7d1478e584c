"""The first step of a build on its driver: has missing episodes made, and reads the reports of all."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.build.build_state import StateWriter
from pipeline.build.episode_store import (
    EpisodeReport,
    LeftOut,
    Quarantined,
    slim,
    stored_keys,
    stored_reports,
)
from pipeline.build.executor import Executor, Progress, WorkerDied
from pipeline.build.summary import BuildSummary
from pipeline.build.workers import EpisodeWorker, check_versions
from pipeline.episodes.chunks import ChunkConfig
from pipeline.recipe import Recipe
from schemas.episode import EpisodeRef
from schemas.file_cache import GIGABYTE, limit_cache


@dataclass(frozen=True)
class EpisodeWorkerFactory:
    """Makes an ``EpisodeWorker`` in a worker's process.

    Attributes:
        store: where finished episodes lie.
        cache_bytes: of the files of URLs that workers of a machine share.
        versions: of the driver's libraries (``pipeline.build.episode_store.library_versions``).
    """

    recipe: Recipe
    store: Path
    chunks: ChunkConfig
    cache_bytes: int
    versions: dict[str, str]

    def __call__(self) -> EpisodeWorker:
        """The worker.

        Raises:
            BuildError: on this machine a library has another version than on the driver's.
        """
        check_versions(self.recipe, self.versions)
        limit_cache(self.cache_bytes / GIGABYTE)
        return EpisodeWorker(self.recipe, self.store, self.chunks)


def make_episodes(
    make_worker: EpisodeWorkerFactory,
    refs: list[EpisodeRef],
    keys: dict[str, str],
    executor: Executor,
    progress: Progress,
    state: StateWriter,
) -> tuple[BuildSummary, list[EpisodeReport]]:
    """Reports of all episodes in the order of their refs; those made before are only read.

    They are read when the missing ones are made, so that resuming a build begins with its work.

    Args:
        keys: of each episode, by its digest (``pipeline.build.episode_store.episode_key``).
    """
    store, keys = make_worker.store, {ref.digest: keys[ref.digest] for ref in refs}
    there = stored_keys(store)
    missing = [ref for ref in refs if keys[ref.digest] not in there]
    summary = BuildSummary(output=Path())
    made: dict[str, EpisodeReport | None] = {}
    state.enter("episodes", len(refs), len(refs) - len(missing))
    while len(made) < len(keys):
        if missing:
            made |= _make_missing(make_worker, missing, executor, progress, state, summary)
        # An episode of which a file is missing or cut is made again.
        unread = {key: digest for digest, key in keys.items() if digest not in made}
        made |= {unread[key]: report for key, report in stored_reports(store, list(unread)).items() if report}
        missing = [ref for ref in refs if ref.digest not in made]
    reports = [report for ref in refs if (report := made[ref.digest]) is not None]
    summary.count(reports)
    return summary, reports


def _make_missing(
    make_worker: EpisodeWorkerFactory,
    refs: list[EpisodeRef],
    executor: Executor,
    progress: Progress,
    state: StateWriter,
    summary: BuildSummary,
) -> dict[str, EpisodeReport | None]:
    """Make episodes and count them in the summary; returns their reports by digest, None for those without."""
    make_worker.recipe.check(own_devices=False)
    made: dict[str, EpisodeReport | None] = {}
    seconds = Counter(summary.seconds)
    results = executor.run(
        make_worker,
        refs,
        device=make_worker.recipe.device,
        thread_safe=make_worker.recipe.thread_safe,
        begun=lambda ref: state.begun(ref.name),
    )
    for ref, result in progress("episodes", len(refs), results):
        state.finished(ref.name)
        made[ref.digest] = None
        if isinstance(result, WorkerDied):
            result = Quarantined(ref.source, ref.episode, "worker_died", f"{ref.name}: {result.message}")
        if isinstance(result, Quarantined):
            summary.quarantined.append(result)
            state.quarantine(result)
        elif isinstance(result, LeftOut):
            summary.left_out[result.reason] = summary.left_out.get(result.reason, 0) + 1
        else:
            made[ref.digest] = slim(result)
            summary.made += 1
            seconds.update(result.seconds)
    summary.seconds = dict(seconds)
    return made
