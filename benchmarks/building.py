"""How fast episodes become shards on one core, and where the time goes.

python benchmarks/building.py [--input data/libero] [--repeats 5]
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from machine import describe

from jobs.executors.local import LocalExecutor
from pipeline.build import ShardConfig, build
from pipeline.recipe import Recipe
from schemas.plugins import PluginChoice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, default=Path("data/libero"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    os.sched_setaffinity(0, {next(iter(os.sched_getaffinity(0)))})
    recipe = Recipe(dataset=PluginChoice("libero"))
    best, runs = None, []
    for repeat in range(args.repeats + 1):  # the first warms caches and is not counted
        with tempfile.TemporaryDirectory() as folder:
            start, cpu = time.perf_counter(), time.process_time()
            summary = build(
                recipe,
                args.input.resolve(),
                Path(folder) / "out",
                ShardConfig(),
                LocalExecutor(),
                lambda title, total, items: items,
            )
            runs.append((time.perf_counter() - start, time.process_time() - cpu))
        if repeat and (best is None or runs[-1] <= min(runs[1:])):
            best = summary
    assert best is not None
    walls = sorted(wall for wall, _ in runs[1:])
    median = walls[len(walls) // 2]
    print(describe())
    print(
        f"{best.episodes} episodes, {best.frames} frames, {best.kept} triplets; one core, {args.repeats} runs, median"
    )
    print(f"  frames per second    {best.frames / median:8.1f}   (slowest run {best.frames / walls[-1]:.1f})")
    cpus = sorted(cpu for _, cpu in runs[1:])
    print(f"  frames per CPU second{best.frames / cpus[len(cpus) // 2]:8.1f}   (whatever else the machine was doing)")
    print(f"  triplets per second  {best.kept / median:8.1f}")
    print(f"  peak memory          {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB")
    total = sum(best.seconds.values())
    print(
        f"where an episode's time goes (best run, {total:.2f} s of {walls[0]:.2f} s; the rest is packing and publishing):"
    )
    for stage, seconds in sorted(best.seconds.items(), key=lambda item: -item[1]):
        print(f"  {stage:<18}{1000 * seconds / best.frames:8.2f} ms a frame {100 * seconds / total:6.1f} %")


if __name__ == "__main__":
    main()
