"""Samples a second as training receives them, beside webdataset and litdata on the same samples in one run.

    python benchmarks/training_loader.py [--samples 600] [--size 256] [--batch-size 16] [--threads 1 2 4] [--rounds 5]
    [--json]

The samples are the shipped LIBERO build's with pictures enlarged to ``--size``. The loader is the product's own, as
both stages set it up. Every way ends with batches of both pictures as uint8 RGB, the flow's increments with their mask
as float32 and bool (stage 1), state and actions. The others use the same numpy code for what is no picture.

The first table is samples a second of CPU time, so that a busy machine distorts it less; all ways are measured in turn,
``--rounds`` times, and the median is printed. The second is samples a second of wall-clock time by threads, and how
long a sample holds Python's lock, which bounds what threads can give. litdata is left out where it is not installed.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numcodecs.blosc
import numpy as np
import simplejpeg
import torch
import webdataset
from machine import at_least_one, describe
from PIL import Image
from reading import enlarged_triplets, flow_of

from lamp_model.data.loader import Loader
from lamp_model.training.request import Request
from lamp_model.training.run import _loaders, prepare
from schemas import manifest as manifests
from schemas.files import digest_of, sha256_of
from schemas.manifest import Manifest, read_statistics
from schemas.sample_codec import Members, encode_triplet
from schemas.sample_metadata import load_metadata
from schemas.shard_formats import open_shard, write_shard
from schemas.shard_formats import webdataset as tar_format

Read = Callable[[], int]
"""Reads every sample once and returns their number."""
PICTURES = ("image", "wrist")


def made_build(folder: Path, samples: int, size: int) -> Path:
    """A finished build of the shipped LIBERO samples, repeated to a number, with pictures of ``size``."""
    small, base = enlarged_triplets(folder / "small", size)
    rows = (
        (f"{number:08d}-{(t := base[number % len(base)]).key[17:]}", t.episode, encode_triplet(t))
        for number in range(samples)
    )
    shard = write_shard("webdataset", folder, "bench-000000", rows)
    built = manifests.read_manifest(small)
    manifests.write_statistics(folder, read_statistics(small, built))
    recipe = {"benchmark": [samples, size], "cameras": ["primary"]}
    counts = {"episodes": 2, "kept": samples, "rejected": {}, "quarantined": {}}
    files = {manifests.STATISTICS: sha256_of(folder / manifests.STATISTICS)}
    Manifest(built.dataset, recipe, digest_of(recipe), "webdataset", [shard], samples, counts, files).write(folder)
    return folder


def product_loader(stage: int, build: Path, batch_size: int, threads: int) -> Loader:
    """The loader of a stage on a build, as ``lamp-train`` sets it up; stage 2 without a Motion Expert."""
    options = {"batch_size": batch_size, "val_fraction": 0.0}
    prior = "none" if stage == 2 else None
    request = Request(stage, build, build / f"run{stage}", None, prior=prior, options=options, threads=threads)
    with contextlib.redirect_stdout(io.StringIO()):
        return _loaders(prepare(request))[0]


def of_loader(loader: Loader) -> int:
    """One epoch of whole batches."""
    steps = len(loader.numbers) // loader.batch_size
    return sum(batch.size for batch in loader.batches(0, steps))


def decoding(build: Path, into_place: bool) -> Read:
    """The wall: nothing but decoding the two pictures, which lie ready in memory, each into new memory or into memory
    that is there.
    """
    pictures = [list(triplet.images.values()) for triplet in _triplets(build)]
    place = simplejpeg.decode_jpeg(pictures[0][0], "RGB") if into_place else None

    def read() -> int:
        for images in pictures:
            for data in images:
                simplejpeg.decode_jpeg(data, "RGB", buffer=place)
        return len(pictures)

    return read


def _triplets(build: Path):
    shard = open_shard(next(build.glob("*.tar")))
    return [shard.read(row) for row in range(len(shard))]


def plain_sample(members: Members, meta: dict[str, Any], pictures: list[np.ndarray]) -> tuple[torch.Tensor, ...]:
    """What a user of another library makes of a sample: pictures, increments, mask, state and actions."""
    points, steps = meta["flow"]["points"], meta["flow"]["steps"]
    uvz = flow_of(members, meta)
    packed = -(-points * (steps + 1) // 8)
    masks = np.frombuffer(numcodecs.blosc.decompress(members["mask.blosc"]), np.uint8)
    seen, valid = (
        np.unpackbits(bits, count=points * (steps + 1)).astype(bool).reshape(points, steps + 1)
        for bits in (masks[:packed], masks[packed : 2 * packed])
    )
    usable = seen & valid
    mask = usable[:, 1:] & usable[:, :-1]
    start = np.frombuffer(numcodecs.blosc.decompress(members["start.blosc"]), np.float32).reshape(1, points, 3)
    positions = np.concatenate([start, uvz.transpose(0, 2, 1)]).transpose(1, 0, 2)
    motion = np.where(mask[..., None], np.diff(positions, axis=1), np.float32(0))
    actions = np.load(io.BytesIO(members["actions.npy"]))
    state = np.array(meta["state"], np.float32)
    return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in (*pictures, motion, mask, state, actions))


def by_webdataset(build: Path, batch_size: int) -> int:
    """In the order of the shard, as webdataset reads, pictures decoded by its own handler."""

    def plain(sample: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        members = {name: data for name, data in sample.items() if isinstance(data, bytes)}
        return plain_sample(members, sample["json"], [np.array(sample[f"{role}.jpg"]) for role in PICTURES])

    keep = webdataset.handle_extension("npy", lambda data: data)  # else it is parsed twice
    data = webdataset.WebDataset(str(next(build.glob("*.tar"))), shardshuffle=False)
    batches = data.decode(keep, "pil").map(plain).batched(batch_size, collation_fn=_stacked, partial=False)
    return sum(len(batch[0]) for batch in batches)


def _stacked(samples: list[tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
    return [torch.stack(field) for field in zip(*samples, strict=True)]


def litdata_set(build: Path, folder: Path) -> Path:
    """The same samples, encoded as they are in the tar, in litdata's own format, which is the only one it reads."""
    import litdata

    litdata.optimize(
        fn=partial(_members_of, next(build.glob("*.tar"))),
        inputs=list(range(len(open_shard(next(build.glob("*.tar")))))),
        output_dir=str(folder),
        chunk_bytes="32MB",
        num_workers=1,
        verbose=False,
    )
    return folder


def _members_of(tar: Path, row: int) -> Members:
    shard = open_shard(tar)
    members = tar_format.unpack_sample(shard.index["key"][row].decode(), shard.region(row))  # pyright: ignore[reportAttributeAccessIssue]
    shard.close()
    return members


def by_litdata(folder: Path, batch_size: int) -> int:
    """In litdata's shuffled order, in this process."""
    import litdata

    def plain(members: Members) -> tuple[torch.Tensor, ...]:
        pictures = [np.array(Image.open(io.BytesIO(members[f"{role}.jpg"])).convert("RGB")) for role in PICTURES]
        return plain_sample(members, load_metadata("", members["json"]), pictures)

    data = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=False)
    loader = litdata.StreamingDataLoader(
        data, batch_size=batch_size, num_workers=0, drop_last=True, collate_fn=lambda s: _stacked([plain(m) for m in s])
    )
    return sum(len(batch[0]) for batch in loader)


@dataclass(frozen=True)
class Rate:
    """Samples a second: of CPU time over all threads, and of wall-clock time."""

    cpu: float
    wall: float


def in_turn(ways: dict[str, Read], rounds: int) -> dict[str, Rate]:
    """The median rates of every way; all are measured in each round, after one round to warm up."""
    found: dict[str, list[Rate]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, read in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            count = read()
            rate = Rate(count / (time.process_time() - cpu), count / (time.perf_counter() - wall))
            if turn:
                found[name].append(rate)
    return {
        name: Rate(statistics.median(r.cpu for r in rates), statistics.median(r.wall for r in rates))
        for name, rates in found.items()
    }


@contextlib.contextmanager
def outside_lock() -> Iterator[list[float]]:
    """Count the CPU seconds of the calls that release Python's lock: decoding JPEG and blosc."""
    spent = [0.0]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **options: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*args, **options)
            finally:
                spent[0] += time.thread_time() - began

        return made

    decode, expand = simplejpeg.decode_jpeg, numcodecs.blosc.decompress
    simplejpeg.decode_jpeg, numcodecs.blosc.decompress = counted(decode), counted(expand)
    try:
        yield spent
    finally:
        simplejpeg.decode_jpeg, numcodecs.blosc.decompress = decode, expand


def locked_milliseconds(loader: Loader) -> float:
    """Milliseconds for which a sample holds Python's lock at most: what one thread spends outside those calls."""
    of_loader(loader)
    found = []
    for _ in range(3):
        with outside_lock() as spent:
            began = time.process_time()
            count = of_loader(loader)
            found.append((time.process_time() - began - spent[0]) / count * 1000)
    return min(found)


def ways_of(build: Path, folder: Path, batch_size: int) -> dict[str, Read]:
    """Everything that the first table compares."""
    ways: dict[str, Read] = {
        "webdataset, .decode('pil')": lambda: by_webdataset(build, batch_size),
        "LaMP, stage 1": partial(of_loader, product_loader(1, build, batch_size, 1)),
        "LaMP, stage 2 (no flow is taken)": partial(of_loader, product_loader(2, build, batch_size, 1)),
        "wall: decoding both pictures": decoding(build, False),
        "wall: the same into memory that is there": decoding(build, True),
    }
    if find_spec("litdata") is not None:
        packed = litdata_set(build, folder / "litdata")
        ways["litdata"] = lambda: by_litdata(packed, batch_size)
    return ways


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=at_least_one, default=600)
    parser.add_argument("--size", type=at_least_one, default=256)
    parser.add_argument("--batch-size", type=at_least_one, default=16)
    parser.add_argument("--threads", type=at_least_one, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        build = made_build(Path(temporary) / "build", args.samples, args.size)
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(everywhere)})
        rates = in_turn(ways_of(build, Path(temporary), args.batch_size), args.rounds)
        os.sched_setaffinity(0, everywhere)
        loaders = {
            (stage, count): product_loader(stage, build, args.batch_size, count)
            for stage in (1, 2)
            for count in args.threads
        }
        by_threads = in_turn({key: partial(of_loader, loader) for key, loader in loaders.items()}, args.rounds)  # type: ignore[arg-type]
        locked = {stage: locked_milliseconds(product_loader(stage, build, args.batch_size, 1)) for stage in (1, 2)}
    report(args, rates, by_threads, locked, len(everywhere))


def report(args: argparse.Namespace, rates, by_threads, locked: dict[int, float], cores: int) -> None:
    """Print everything."""
    if args.json:
        facts = {
            "cpu": {name: rate.cpu for name, rate in rates.items()},
            "wall_by_threads": {f"stage {stage}, {count}": rate.wall for (stage, count), rate in by_threads.items()},
            "locked_ms": locked,
        }
        print(json.dumps(facts, indent=1))
        return
    print(describe())
    base, wall = rates["webdataset, .decode('pil')"].cpu, rates["wall: decoding both pictures"].cpu
    print(f"{'samples a second of CPU time, one core':<46}{'':>8}   of webdataset   of the wall")
    for name, rate in rates.items():
        print(f"  {name:<44}{rate.cpu:8.0f}{rate.cpu / base:14.2f} x{rate.cpu / wall:13.0%}")
    if "litdata" not in rates:
        print("  litdata: not installed, left out")
    print(f"by threads, on {cores} cores{'':<26}samples a second   CPU ms a sample")
    for (stage, count), rate in by_threads.items():
        print(f"  stage {stage}, {count} thread(s){'':<27}{rate.wall:8.0f}{1000 / rate.cpu:18.2f}")
    for stage, milliseconds in locked.items():
        print(
            f"stage {stage}: a sample holds Python's lock for at most {milliseconds:.2f} ms, so threads end at "
            f"{1000 / milliseconds:,.0f} samples a second or more"
        )


if __name__ == "__main__":
    main()
