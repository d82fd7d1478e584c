"""How much of the time a model runs in a worker that works on one, two or three episodes at once.

    python benchmarks/overlap.py [--at-once 1 2 3] [--ms 8] [--files 20] [--repeats 3] [--input data/libero]

The model is a stand-in that waits ``--ms`` for each frame without using the CPU, as a worker's thread does while a GPU
computes (``waiting_depth``). Everything else is the build's own: reading, tracking, encoding, writing. ``--ms 0``
measures what the threads cost or gain without any model. Outputs are compared with the first.
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

from machine import at_least_one, copies_of_an_episode_file, describe

from jobs.executors.local import Config, LocalExecutor
from pipeline.build.run import ShardConfig, build
from pipeline.recipe import Recipe
from schemas.plugins import PluginChoice


def measure(source: Path, output: Path, at_once: int, ms: float) -> tuple[float, float, float, str]:
    """Frames a second, the share of the time in which the model ran, CPU seconds, and the digest of the output."""
    recipe = Recipe(PluginChoice("libero"), depth=PluginChoice("waiting_depth", {"ms": ms}))
    wall, cpu = time.perf_counter(), time.process_time()
    executor = LocalExecutor(Config(at_once))
    summary = build(recipe, source, output, ShardConfig(), executor, lambda title, total, items: items)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(output.iterdir()) if p.is_file())).hexdigest()
    return summary.frames / wall, summary.frames * ms / 1000 / wall, cpu, digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=Path("data/libero"))
    parser.add_argument("--at-once", type=at_least_one, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ms", type=float, default=8.0)
    parser.add_argument("--files", type=at_least_one, default=20)
    parser.add_argument("--repeats", type=at_least_one, default=3)
    args = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        copies_of_an_episode_file(source, args.files, args.input)
        digests = set()
        for repeat in range(args.repeats):
            for at_once in args.at_once:
                rate, busy, cpu, digest = measure(source, Path(folder) / f"out-{repeat}-{at_once}", at_once, args.ms)
                digests.add(digest)
                print(
                    f"{at_once} at once: {rate:.0f} frames/s, the model ran {busy:.0%} of the time, {cpu:.1f} CPU s",
                    flush=True,
                )
        print("all outputs are the same" if len(digests) == 1 else "THE OUTPUTS DIFFER")


if __name__ == "__main__":
    main()
