"""Second step of a build: packs stored episodes into shards.

Sample keys are sorted, permuted with a seed and split into shards of nearly equal size. A sample's position depends
only on the set of samples and the seed, so the bytes do not depend on the number of workers or the order in which they
finish.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import google_crc32c
import numpy as np

from pipeline.build.episode_store import EpisodeReport, samples_path, uncollected
from schemas.files import digest_of, sync_folder, write_whole
from schemas.parallel import in_parallel
from schemas.shard_formats import CorruptShard, ShardFile, webdataset, write_shard


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be written.

    Attributes:
        stem: its name without the suffix.
        samples: key, episode digest, the stored episode's key, offset and size, in order.
    """

    stem: str
    samples: list[tuple[str, str, str, int, int]]

    @cached_property
    def digest(self) -> str:
        """Identifies the shard's contents, as the stored episodes' names are digests."""
        return digest_of([self.stem, self.samples])


def plan_shards(reports: list[EpisodeReport], dataset: str, samples_per_shard: int, seed: int) -> list[ShardPlan]:
    """Assign samples to shards."""
    with uncollected():
        samples = sorted(
            (key, report.episode, report.key, offset, size) for report in reports for key, offset, size in report.rows
        )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(samples))
    count = -(-len(samples) // samples_per_shard)
    return [
        ShardPlan(f"{dataset}-{number:06d}", [samples[i] for i in chunk])
        for number, chunk in enumerate(np.array_split(order, count) if count else [])
    ]


class ShardWorker:
    """Writes planned shards; runs in a worker process."""

    def __init__(self, output: Path, store: Path, records: Path, format_name: str):
        self.output, self.store, self.records, self.format = output, store, records, format_name

    def __call__(self, plan: ShardPlan) -> ShardFile:
        """Write one shard and then the record that it is done.

        Raises:
            CorruptShard: a stored episode is damaged; the message names it.
            OSError: the shard cannot be written.
        """
        record_path = self.records / f"{plan.stem}.json"
        if record_path.exists():  # it may be of another plan's shard of this name
            record_path.unlink()
            sync_folder(self.records)
        regions = self._regions(plan)
        if self.format == "webdataset":
            written = webdataset.write_regions(self.output, plan.stem, regions)
        else:
            samples = ((key, episode, webdataset.unpack_sample(key, region)) for key, episode, region in regions)
            written = write_shard(self.format, self.output, plan.stem, samples)
        record = {"plan": plan.digest, "format": self.format, "shard": asdict(written)}
        write_whole(record_path, json.dumps(record).encode())
        return written

    def _regions(self, plan: ShardPlan):
        sums: dict[str, dict[str, int]] = {}
        regions = in_parallel(self._read, plan.samples, self.store)
        for (key, episode, stored, _, _), region in zip(plan.samples, regions, strict=True):
            path = samples_path(self.store, stored)
            if stored not in sums:
                sums[stored] = self._sums(stored)
            if google_crc32c.value(region) != sums[stored].get(key):
                raise CorruptShard(f"{path}: sample {key} is damaged; delete this file and run the build again")
            yield key, episode, region

    def _sums(self, stored: str) -> dict[str, int]:
        """The CRC-32C of each sample of a stored episode."""
        index = webdataset.read_index(samples_path(self.store, stored))
        return {row["key"].decode(): int(row["crc32c"]) for row in index}

    def _read(self, sample: tuple[str, str, str, int, int]) -> bytes:
        _, _, stored, offset, size = sample
        return webdataset.read_region(samples_path(self.store, stored), offset, size)


def finished_shard(output: Path, records: Path, plan: ShardPlan, format_name: str) -> ShardFile | None:
    """The shard of a plan if it was written before and is still complete, else None."""
    try:
        record = json.loads((records / f"{plan.stem}.json").read_bytes())
        shard = ShardFile(**record["shard"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    same = record["plan"] == plan.digest and record["format"] == format_name
    return shard if same and stands(output, shard) else None


def stands(output: Path, shard: ShardFile) -> bool:
    """Whether a shard exists in its full size and with its index; its bytes are not read."""
    path = output / shard.name
    if shard.index_sha256:  # a tar
        try:
            return path.stat().st_size == shard.bytes and webdataset.index_path(path).is_file()
        except FileNotFoundError:
            return False
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else []
    return bool(files) and sum(file.stat().st_size for file in files) == shard.bytes
