"""How soon and how fast training reads shards from a store: opening, first sample, first batch, samples by ranges and
from the cache.

    python benchmarks/stores.py s3://bucket/shards [--make 16384] [--samples 512] [--threads 8]

``--make`` first writes a build there: the shipped LIBERO episodes, repeated. The cache is a folder that is removed
afterwards, so every run is cold.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from machine import at_least_one, describe

from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from pipeline.recipe import PluginChoice, Recipe
from schemas.file_cache import limit_cache
from schemas.files import sha256_of
from schemas.locations import locate
from schemas.manifest import STATISTICS, Manifest, read_manifest, write_statistics
from schemas.sample_codec import encode_triplet
from schemas.shard_formats import write_shard
from schemas.shard_set import ShardSet

A_SHARD = 2048
BATCH = 32


def make(target: Path, samples: int) -> None:
    """Write a build of so many samples: the shipped ones, repeated under other keys."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(dataset=PluginChoice("libero"))
        source = Path(__file__).parents[1] / "data" / "libero"
        build(recipe, source, Path(folder), ShardConfig(), LocalExecutor(), lambda title, total, items: items)
        small = ShardSet(Path(folder))
        base = [small.read(number) for number in range(len(small))]
        encoded = [encode_triplet(triplet) for triplet in base]

        def some(first: int) -> Iterator[tuple[str, str, dict[str, bytes]]]:
            for number in range(first, min(first + A_SHARD, samples)):
                triplet = base[number % len(base)]
                yield f"{number:08d}-{triplet.key[17:]}", triplet.episode, encoded[number % len(base)]

        shards = [
            write_shard("webdataset", target, f"bench-{first // A_SHARD:06d}", some(first))
            for first in range(0, samples, A_SHARD)
        ]
        write_statistics(target, small.statistics())
        before = read_manifest(Path(folder))
        files = {STATISTICS: sha256_of(target / STATISTICS)}
        values = {**asdict(before), "shards": shards, "samples": samples, "files": files}
        Manifest(**values).write(target)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a function takes, and its result."""
    began = time.monotonic()
    result = function()
    return time.monotonic() - began, result


def measure(url: Path, samples: int, threads: int) -> None:
    """Print the figures of a cold start, of reading by ranges and of reading from the cache."""
    first = measured_start(url, threads)
    print(
        f"opening {first[0]:.2f} s, first sample {first[1]:.3f} s later, first batch of {BATCH} {first[2]:.3f} s later"
    )
    for gigabytes, how in ((0.0, "by ranges"), (1000.0, "from the cache")):
        limit_cache(gigabytes)
        shards = ShardSet(url)
        order = np.random.default_rng(1).permutation(len(shards))[:samples]
        with ThreadPoolExecutor(threads) as pool:
            if gigabytes:
                fetched = timed(lambda shards=shards: [getattr(shard, "fetch", int)() for shard in shards._shards])[0]
                total = sum(shard.bytes for shard in shards.manifest.shards)
                print(f"fetching {total / 1e6:.0f} MB of shards: {total / 1e6 / fetched:.0f} MB/s, verified")
            numbers = order.tolist()
            seconds = timed(lambda shards=shards, pool=pool, numbers=numbers: list(pool.map(shards.read, numbers)))[0]
        print(f"{how}: {len(order) / seconds:.0f} samples/s with {threads} threads")
        shards.close()


def measured_start(url: Path, threads: int) -> tuple[float, float, float]:
    """Seconds until the set is open, from then to the first sample, and from then to a batch."""
    limit_cache(1000.0)
    opening, shards = timed(lambda: ShardSet(url))
    order = np.random.default_rng(0).permutation(len(shards))[: BATCH + 1].tolist()
    sample, _ = timed(lambda: shards.read(order[0]))
    with ThreadPoolExecutor(threads) as pool:
        batch, _ = timed(lambda: list(pool.map(shards.read, order[1:])))
    shards.close()
    return opening, sample, batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", type=locate)
    parser.add_argument("--make", type=at_least_one)
    parser.add_argument("--samples", type=at_least_one, default=512)
    parser.add_argument("--threads", type=at_least_one, default=8)
    args = parser.parse_args()
    print(describe())
    if args.make is not None:
        make(args.url, args.make)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["LAMP_CACHE"] = cache
        measure(args.url, args.samples, args.threads)


if __name__ == "__main__":
    main()
