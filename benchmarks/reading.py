"""Samples read per second on one core, beside webdataset on the same shard, and bytes per sample.

    python benchmarks/reading.py [--shards FOLDER] [--samples 600] [--size 256]

Without ``--shards`` a set is made: flow and words of the shipped LIBERO build, with its pictures enlarged to
``--size``. Every way of reading ends with the same things in memory: both pictures as uint8 RGB and the flow as float32
positions.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import webdataset
from machine import describe

from jobs.executors.local import LocalExecutor
from pipeline.build.run import ShardConfig, build
from pipeline.recipe import PluginChoice, Recipe
from pipeline.windows.sample import encode_jpeg
from schemas.jpeg import decode_jpeg
from schemas.sample_codec import decode_triplet, encode_triplet
from schemas.shard_formats import open_shard, write_shard
from schemas.triplet import Triplet


def enlarged(folder: Path, samples: int, size: int) -> list[Path]:
    """The shipped build, repeated to ``samples`` with pictures of ``size``, as one shard of each format."""
    _, base = enlarged_triplets(folder / "small", size)

    def repeated() -> Iterator[tuple[str, str, dict[str, bytes]]]:
        for number in range(samples):
            triplet = base[number % len(base)]
            yield f"{number:08d}-{triplet.key[17:]}", triplet.episode, encode_triplet(triplet)

    for name in ("webdataset", "zarr"):
        write_shard(name, folder, "bench", repeated())
    return [folder / "bench.tar", folder / "bench.zarr"]


def enlarged_triplets(folder: Path, size: int) -> tuple[Path, list[Triplet]]:
    """The shipped build in a folder, and its samples with pictures of ``size``."""
    recipe = Recipe(dataset=PluginChoice("libero"))
    source = Path(__file__).parents[1] / "data" / "libero"
    build(recipe, source, folder, ShardConfig(), LocalExecutor(), lambda title, total, items: items)
    small = open_shard(next(folder.glob("*.tar")))
    return folder, [_resized(small.read(row), size) for row in range(len(small))]


def _resized(triplet: Triplet, size: int) -> Triplet:
    images = {}
    for role, data in triplet.images.items():
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        images[role] = encode_jpeg(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_CUBIC)[..., ::-1], 95)
    return replace(triplet, images=images)


def pictures_of(triplet: Triplet) -> list[np.ndarray]:
    return [decode_jpeg(data) for data in triplet.images.values()]


def indexed(path: Path, decode: bool, shuffled: bool = True) -> int:
    shard = open_shard(path)
    order = np.random.default_rng(0).permutation(len(shard)) if shuffled else range(len(shard))
    for row in order:
        triplet = shard.read(int(row))
        if decode:
            pictures_of(triplet)
    return len(shard)


def pictures_only(path: Path) -> Callable[[], int]:
    """The wall: nothing but the decoding of the pictures, which lie ready in memory."""
    shard = open_shard(path)
    triplets = [shard.read(row) for row in range(len(shard))]

    def decode() -> int:
        for triplet in triplets:
            pictures_of(triplet)
        return len(triplets)

    return decode


def bytes_only(path: Path) -> int:
    shard = open_shard(path)
    for row in np.random.default_rng(0).permutation(len(shard)):
        shard.region(int(row))  # pyright: ignore[reportAttributeAccessIssue]
    return len(shard)


def by_webdataset(path: Path, decode: str | None) -> int:
    """In order, as webdataset reads; with pictures decoded by its own handler and the flow by this project's codec."""
    count = 0
    data = webdataset.WebDataset(str(path), shardshuffle=False)
    for sample in data.decode(decode) if decode else data:
        count += 1
        if decode:
            raw = {k: v for k, v in sample.items() if isinstance(v, bytes)}
            flow_of(raw, sample["json"])
    return count


def flow_of(members: dict[str, bytes], meta: dict) -> np.ndarray:
    """What a user of plain webdataset does with the flow member."""
    from numcodecs.blosc import decompress

    points, steps = meta["flow"]["points"], meta["flow"]["steps"]
    delta = np.frombuffer(decompress(members["flow.blosc"]), np.int16).reshape(steps, 3, points)
    start = np.frombuffer(decompress(members["start.blosc"]), np.float32).reshape(points, 3).T
    np.frombuffer(decompress(members["mask.blosc"]), np.uint8)
    quantum = np.array(meta["flow"]["quantum"], np.float32)
    quantum[:2] /= meta["camera"]["size"]
    return start + np.cumsum(delta, axis=0, dtype=np.int16) * quantum[:, None]


def timed(read: Callable[[], int], repeats: int) -> float:
    """Samples per second, the median of some runs after one to warm up."""
    read()
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        rates.append(read() / (time.perf_counter() - start))
    return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    os.sched_setaffinity(0, {next(iter(os.sched_getaffinity(0)))})
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.shards:
            tar, zarr = next(args.shards.glob("*.tar")), next(args.shards.glob("*.zarr"), None)
        else:
            tar, zarr = enlarged(Path(folder), args.samples, args.size)
        print(describe())
        _print_sizes(tar)
        default = timed(lambda: by_webdataset(tar, "pil"), args.repeats)
        rows = [
            ("webdataset, .decode('pil'), in order", default),
            ("webdataset, .decode('rgb8'), in order", timed(lambda: by_webdataset(tar, "rgb8"), args.repeats)),
            ("webdataset, .decode('rgb'), in order", timed(lambda: by_webdataset(tar, "rgb"), args.repeats)),
            ("indexed tar, random order, everything decoded", timed(lambda: indexed(tar, True), args.repeats)),
            ("the wall: decoding the pictures and nothing else", timed(pictures_only(tar), args.repeats)),
            ("webdataset, bytes only, in order", timed(lambda: by_webdataset(tar, None), args.repeats)),
            ("indexed tar, random order, bytes with CRC-32C", timed(lambda: bytes_only(tar), args.repeats)),
            ("indexed tar, random order, pictures left encoded", timed(lambda: indexed(tar, False), args.repeats)),
        ]
        if zarr:
            rows.append(("zarr, random order, everything decoded", timed(lambda: indexed(zarr, True), 1)))
        print(f"{'samples per second on one core':<52}{'':>8}  of webdataset's .decode('pil')")
        for name, rate in rows:
            print(f"  {name:<50}{rate:8.0f}  {rate / default:6.2f} x")


def _print_sizes(path: Path) -> None:
    shard, sizes = open_shard(path), Counter()
    for row in range(len(shard)):
        triplet = shard.read(row)
        members = encode_triplet(triplet)
        assert decode_triplet(triplet.key, members).key == triplet.key
        sizes.update({name: len(data) for name, data in members.items()})
    total = int(shard.index["size"].sum())
    pictures = sum(n for name, n in sizes.items() if name.endswith(("jpg", "png")))
    print(
        f"{len(shard)} samples; bytes a sample: {total / len(shard):.0f} in the tar, of which pictures "
        f"{pictures / len(shard):.0f},"
    )
    print(f"  everything else {(total - pictures) / len(shard):.0f} with tar headers: ", end="")
    print(
        ", ".join(
            f"{name} {n / len(shard):.0f}" for name, n in sorted(sizes.items()) if not name.endswith(("jpg", "png"))
        )
    )


if __name__ == "__main__":
    main()
