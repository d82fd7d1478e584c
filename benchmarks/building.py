"""How fast episodes become shards on one core, for every combination of parts that is named, and where the time goes.

    python benchmarks/building.py [--input data/libero] [--flow tracked simulator] [--tracker lk dis] [--depth recorded]
    [--camera static]
                                  [--render 256 --robosuite DIR --libero-assets DIR] [--repeats 5] [--stages]

A part is NAME or NAME:OPTION=VALUE,... as in ``lamp-data evaluate``; each combination is measured in a process of its
own. ``--render`` draws the LIBERO episodes anew at another size first, with depth (docs/simulator.md). With a GPU, its
peak memory and idle share are printed too; the process is then not tied to one core.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from machine import describe

from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from pipeline.recipe import Recipe
from schemas.plugins import PluginChoice


@dataclass
class Measured:
    """What a combination took: seconds of the wall and of the processor, sorted, of all runs but the first.

    ``windows`` were made and judged; ``triplets`` of them were kept.
    """

    episodes: int = 0
    frames: int = 0
    triplets: int = 0
    windows: int = 0
    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    memory: int = 0
    gpu: str = ""


class Gpu:
    """Samples how busy the GPU is while the block runs; says nothing where there is none."""

    def __enter__(self) -> "Gpu":
        self.samples: list[int] = []
        self._cuda = _cuda()
        if self._cuda is not None:
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._cuda is not None:
            self._done.set()
            self._thread.join()

    def __str__(self) -> str:
        if self._cuda is None:
            return ""
        idle = f"{100 - sum(self.samples) / len(self.samples):.0f} % idle" if self.samples else "idle share unknown"
        return f"{self._cuda.max_memory_allocated() / 2**30:.1f} GiB, {idle}"

    def _sample(self) -> None:
        while not self._done.wait(0.1):
            try:
                self.samples.append(self._cuda.utilization())
            except (ImportError, RuntimeError):  # nvidia-ml-py is not installed
                return


def _cuda() -> Any:
    if shutil.which("nvidia-smi") is None:  # torch is asked only where there is something to ask for: it takes 200 MB
        return None
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda if torch.cuda.is_available() else None


def measure(recipe: Recipe, source: Path, repeats: int) -> Measured:
    """Build again and again; the first run warms caches and is not counted."""
    if _cuda() is None:
        os.sched_setaffinity(0, {next(iter(os.sched_getaffinity(0)))})
    found, runs, best = Measured(), [], None
    with Gpu() as gpu:
        for _ in range(repeats + 1):
            with tempfile.TemporaryDirectory() as folder:
                wall, cpu = time.perf_counter(), time.process_time()
                summary = build(
                    recipe, source, Path(folder) / "out", ShardConfig(), LocalExecutor(), lambda *told: told[2]
                )
                runs.append((time.perf_counter() - wall, time.process_time() - cpu))
            if len(runs) > 1 and runs[-1] <= min(runs[1:]):
                best = summary
    assert best is not None
    found.episodes, found.frames, found.triplets = best.episodes, best.frames, best.kept
    found.windows = best.kept + sum(best.rejected.values())
    found.walls, found.cpus = (sorted(run[i] for run in runs[1:]) for i in (0, 1))
    found.stages, found.gpu = best.seconds, str(gpu)
    # getrusage would tell the parent's peak, if that was higher: a new process inherits it.
    found.memory = int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    return found


def _measure_into(pipe: Any, recipe: Recipe, source: Path, repeats: int) -> None:
    try:
        pipe.send(measure(recipe, source, repeats))
    except Exception as error:  # another combination may still be measured
        pipe.send(f"{type(error).__name__}: {error}")


def apart(recipe: Recipe, source: Path, repeats: int) -> Measured | str:
    """``measure`` in a fresh process, whose memory is its own; or why it could not be."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure_into, args=(theirs, recipe, source, repeats))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return "its process died"
    finally:
        process.join()


def row(name: str, found: Measured) -> str:
    """A line of the table."""
    middle = len(found.walls) // 2
    columns = [
        f"{found.frames / found.walls[middle]:.0f} ({found.frames / found.walls[-1]:.0f})",
        f"{found.frames / found.cpus[middle]:.0f}",
        f"{found.windows / found.walls[middle]:.1f} ({found.triplets / found.walls[middle]:.1f})",
        f"{found.memory / 2**20:.0f}",
        ", ".join(f"{stage} {1000 * s / found.frames:.1f}" for stage, s in _largest(found.stages)),
    ]
    return "| " + " | ".join([name, *columns, *([found.gpu] if found.gpu else [])]) + " |"


def _largest(stages: dict[str, float], count: int | None = 4) -> list[tuple[str, float]]:
    return sorted(stages.items(), key=lambda item: -item[1])[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=Path("data/libero"))
    parser.add_argument("--dataset", default="libero")
    parser.add_argument("--repeats", type=int, default=5)
    for part, default in (("flow", "tracked"), ("tracker", "lk"), ("depth", "recorded"), ("camera", "static")):
        parser.add_argument(f"--{part}", nargs="+", default=[default])
    parser.add_argument("--render", type=int, help="draw the episodes anew, so many pixels to a side")
    parser.add_argument("--robosuite", type=Path)
    parser.add_argument("--libero-assets", type=Path)
    parser.add_argument("--stages", action="store_true", help="print every stage")
    args = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        source = args.input.resolve()
        if args.render:
            from rendered import render_files

            source = render_files(source, Path(folder), args.render, args.robosuite, args.libero_assets)
        gpu = " GPU |" if _cuda() is not None else ""
        print(
            "| flow, tracker, depth, camera | frames/s (slowest) | per CPU s | windows/s (kept) | MiB | ms a frame "
            f"|{gpu}"
        )
        print("|---" * (7 if gpu else 6) + "|")
        combinations = product(args.flow, args.tracker, args.depth, args.camera)
        # A flow source that tracks nothing has no use for the other parts: measured once.
        used = [names if "tracked" in names[0] else (names[0], "lk", "recorded", "static") for names in combinations]
        for names in dict.fromkeys(used):
            flow, tracker, depth, camera = map(PluginChoice.parse, names)
            recipe = replace(
                Recipe(dataset=PluginChoice.parse(args.dataset)), flow=flow, tracker=tracker, depth=depth, camera=camera
            )
            found = apart(recipe, source, args.repeats)
            said = " + ".join(names if flow.name == "tracked" else names[:1])
            print(f"| {said} | could not be measured: {found} |" if isinstance(found, str) else row(said, found))
            if isinstance(found, Measured) and args.stages:
                for stage, seconds in _largest(found.stages, None):
                    print(f"    {stage:<18}{1000 * seconds / found.frames:8.2f} ms a frame")


if __name__ == "__main__":
    main()
