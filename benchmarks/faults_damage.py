"""Damage that no process causes: bits that turn in finished files, and an episode that kills its worker."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.executors import ray as ray_executor
from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from pipeline.recipe import Recipe, WindowConfig
from schemas.plugins import PluginChoice

RECIPE = Recipe(PluginChoice("libero"), windows=WindowConfig(stride=8, grid=10))
SHARDS = ShardConfig(samples_per_shard=12)


def flip_bits(source: Path, folder: Path, flips: int, found: dict[str, int], missed: list[str]) -> None:
    """Turn single bits at random places of a build's files, one at a time, and look whether inspecting names the file.

    Args:
        found: flips by kind of file, which are added to.
        missed: file, byte and bit of those that were not found, which are added to.
    """
    output = folder / "flipped"
    build(RECIPE, source, output, SHARDS, LocalExecutor(), _silent)
    rng = random.Random(sum(found.values()))
    kinds = {"shard": "*.tar", "index": "*.index.npy", "manifest": "manifest.json", "beside": "[es]*.json*"}
    for number in range(flips):
        kind = list(kinds)[number % len(kinds)]
        path = rng.choice(sorted(output.glob(kinds[kind])))
        data = path.read_bytes()
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        try:
            said = inspected(output)
        finally:
            path.write_bytes(data)
        found[kind] = found.get(kind, 0) + 1
        stem = path.name.partition(".")[0]
        if not any(stem in one for one in said):
            missed.append(f"{path.name} byte {place} bit {bit}: {said[:1]}")


def inspected(output: Path) -> list[str]:
    """What ``lamp-data inspect`` finds in a folder; each finding names a file."""
    from pipeline.inspection.shard_paths import CannotInspect, open_collection, sets_at
    from pipeline.inspection.summary import summarise
    from schemas.manifest import BadManifest

    said: list[str] = []
    try:
        for one in sets_at(output):
            collection = open_collection(one)
            summary = summarise(collection, verify=True, limit=0)
            said += [f"{finding.file}: {finding.problem}" for finding in summary.findings]
    except (BadManifest, CannotInspect) as error:
        said.append(str(error))
    return said


class Poisoned:
    """Runs a build on Ray in which one episode kills every worker that touches it; every attempt leaves a file."""

    def __init__(self, episode: str, notes: Path):
        self.episode, self.notes = episode, notes
        self.inner = ray_executor.build(ray_executor.Config(address="local", workers=2))

    def run(self, make_worker: Callable[[], Any], tasks: Any, **options: Any) -> Any:
        """See ``pipeline.build.executor.Executor.run``."""
        episode, notes = self.episode, self.notes

        def make() -> Callable[[Any], Any]:
            worker = make_worker()

            def work(task: Any) -> Any:
                if getattr(task, "name", None) == episode:
                    (notes / f"{time.monotonic_ns()}").touch()
                    os._exit(1)
                return worker(task)

            return work

        return self.inner.run(make, tasks, **options)


def poison(source: Path, folder: Path) -> dict[str, int]:
    """Build with an episode that kills its worker: how often it was tried, and how many of the others were built."""
    notes = folder / "notes"
    notes.mkdir()
    whole = build(RECIPE, source, folder / "whole", SHARDS, LocalExecutor(), _silent)
    poisoned = Poisoned("task_00_demo.hdf5:demo_1", notes)
    summary = build(RECIPE, source, folder / "poisoned", SHARDS, poisoned, _silent)
    return {
        "tries": len(list(notes.iterdir())),
        "quarantined": len(summary.quarantined),
        "built": summary.episodes,
        "neighbours_lost": whole.episodes - 1 - summary.episodes,
    }


def _silent(title: str, total: int, items: Any) -> Any:
    return items
