"""How a build scales with workers on Ray, the share of time that Ray adds, and how fast shards are packed.

    python benchmarks/workers.py [--workers 1 2] [--files 20] [--repeats 3] [--input data/libero]

The shipped episodes are copied into so many files. Time runs from the first task given to a worker to the last result,
without the start of Ray and of the workers, which is printed apart. Ray's share is the part of the workers' time in
which they made no episode.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import at_least_one, copies_of_an_episode_file, describe

from jobs.executors import ray as ray_executor
from pipeline.build.executor import unnoticed
from pipeline.build.run import ShardConfig, build
from pipeline.recipe import Recipe
from schemas.plugins import PluginChoice


@dataclass
class Timed:
    """An executor on Ray that notes when the first task of each stage was given out and when the last result came.

    Attributes:
        spans: seconds of each stage by the name of its tasks' type.
        started: seconds until the first worker of each stage was up.
    """

    inner: ray_executor.RayExecutor
    spans: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)

    def run(
        self,
        make_worker: Callable[[], Any],
        tasks: Sequence[Any],
        *,
        begun: Callable[[Any], None] = unnoticed,
        **options: Any,
    ) -> Generator[tuple[Any, Any], None, None]:
        """See ``pipeline.build.executor.Executor.run``."""
        stage, asked, first = type(tasks[0]).__name__, time.perf_counter(), []

        def noted(task: Any) -> None:
            first.append(time.perf_counter())
            begun(task)

        yield from self.inner.run(make_worker, tasks, begun=noted, **options)
        self.spans[stage], self.started[stage] = time.perf_counter() - first[0], first[0] - asked


def measure(source: Path, output: Path, workers: int) -> tuple[float, float, float, float]:
    """Frames a second, Ray's share of the workers' time, MB a second of packing, and seconds until work began."""
    timed = Timed(ray_executor.build(ray_executor.Config(address="auto", workers=workers)))
    shards = ShardConfig(samples_per_shard=64)
    summary = build(Recipe(PluginChoice("libero")), source, output, shards, timed, lambda title, total, items: items)
    span = timed.spans["EpisodeRef"]
    share = 1 - sum(summary.seconds.values()) / (span * workers)
    return summary.frames / span, share, summary.bytes / 1e6 / timed.spans["ShardPlan"], timed.started["EpisodeRef"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=Path("data/libero"))
    parser.add_argument("--workers", type=at_least_one, nargs="+", default=[1, 2])
    parser.add_argument("--files", type=at_least_one, default=20)
    parser.add_argument("--repeats", type=at_least_one, default=3)
    args = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        copies_of_an_episode_file(source, args.files, args.input)
        for repeat in range(args.repeats):
            rates = []
            for workers in args.workers:
                found = measure(source, Path(folder) / f"out-{repeat}-{workers}", workers)
                rates.append(found[0])
                print(
                    f"{workers} workers: {found[0]:.0f} frames/s ({found[0] / rates[0]:.2f} times {args.workers[0]}), "
                    f"Ray's share {found[1]:.1%}, packing {found[2]:.1f} MB/s, began after {found[3]:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
