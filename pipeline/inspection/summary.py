"""Summarises a set of shards, shard by shard; memory does not grow with the size of the set."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.inspection.counters import SampleCounters
from pipeline.inspection.decode import decode_stored_picture
from pipeline.inspection.flow_statistics import FlowStatistics, measure
from pipeline.inspection.integrity import (
    KeyBook,
    check_files,
    check_manifest,
    check_sample,
    check_shard_file,
    size_of,
)
from pipeline.inspection.score import score_of
from pipeline.inspection.shard_paths import Collection, Finding
from schemas.sample_codec import encode_triplet
from schemas.shard_formats import CorruptShard, Shard
from schemas.triplet import Triplet

SIZED = 200
"""How many of the measured samples are encoded again to measure the size of their pictures and flow, which is slow."""

DEPTH_RESIDUAL = "depth_residual"
"""Residual between the aligned depth and its alignment target, in metres."""


@dataclass(frozen=True)
class Candidate:
    """A sample that was measured and may be shown.

    Attributes:
        number: its index in the whole set.
        shard: the file that holds it, at ``row``.
        score: mean over the keypoints of the farthest distance of each in the image, in pixels; 0 without flow.
        trust: its reliability, 0 to 1 (``pipeline.inspection.score``).
        has_flow: whether there is anything to trust.
    """

    number: int
    shard: Path
    row: int
    key: str
    episode: str
    frame: int
    score: float
    trust: float = 1.0
    has_flow: bool = True


@dataclass
class ShardSummary:
    """All facts about a set of shards.

    Attributes:
        bytes_per_sample: ``all`` is the shards' bytes over all samples. ``pictures`` and ``flow`` (with masks) are
            encoded sizes, averaged over ``sized`` of the measured samples; ``rest`` is text, actions and format data.
        read: how many samples were read completely.
        measured: how many of them, evenly spread, were measured for flow and pictures.
        sized: how many of those were encoded again for ``bytes_per_sample``.
        quality: ``min``, ``p50`` and ``max`` over the measured samples of the value of each check, and of the depth
            residual if depth was aligned.
        verified: whether every sample was read and every SHA-256 compared.
    """

    collection: Collection
    samples: int = 0
    episodes: int = 0
    shards: int = 0
    bytes: int = 0
    bytes_per_sample: dict[str, float] = field(default_factory=dict)
    pictures: Counter[str] = field(default_factory=Counter)
    counters: SampleCounters = field(default_factory=SampleCounters)
    flow: list[dict[str, Any]] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    quality: dict[str, dict[str, float]] = field(default_factory=dict)
    read: int = 0
    measured: int = 0
    sized: int = 0
    verified: bool = False
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        manifest = self.collection.manifest
        return {
            "path": str(self.collection.path),
            "finished": manifest is not None,
            "dataset": manifest.dataset if manifest else None,
            "licences": manifest.licences if manifest else None,
            "layout": manifest.layout if manifest else None,
            "format": manifest.format if manifest else None,
            "recipe": manifest.recipe if manifest else None,
            "recipe_digest": manifest.recipe_digest if manifest else None,
            "counts": manifest.counts if manifest and self.collection.whole else None,
            "samples": self.samples,
            "episodes": self.episodes,
            "shards": self.shards,
            "bytes": self.bytes,
            "bytes_per_sample": self.bytes_per_sample,
            "pictures": dict(self.pictures.most_common()),
            "samples_read": self.read,
            "samples_measured": self.measured,
            "samples_sized": self.sized,
            "samples_without_instruction": self.counters.blank,
            **{k: dict(v.most_common()) for k, v in vars(self.counters).items() if isinstance(v, Counter)},
            "flow_ranges": self.flow,
            "quality": self.quality,
            "verified": self.verified,
            "failures": [vars(f) for f in self.findings],
            "notes": self.notes,
        }


def summarise(collection: Collection, verify: bool = True, limit: int = 400) -> ShardSummary:
    """Read a set of shards and summarise its content.

    Args:
        verify: read every sample (checking its CRC-32C) and compare every SHA-256; else only the measured samples are
            read.
        limit: how many samples, evenly spread, are decoded further for ranges of flow and sizes.
    """
    scan = _Scan(collection, verify, limit)
    scan.survey()
    for number, shard in collection.opened():
        scan.shard(number, shard)
    if verify and collection.manifest and collection.whole:
        collection.findings += check_manifest(collection.manifest, collection.folder)
        collection.findings += check_files(collection.manifest, collection.folder)
    return scan.finish()


class _Scan:
    def __init__(self, collection: Collection, verify: bool, limit: int):
        self.collection, self.verify, self.limit = collection, verify, limit
        self.summary = ShardSummary(collection, verified=verify)
        self.starts: dict[int, int] = {}
        self.chosen = np.zeros(0, np.int64)
        self.flow: dict[str, FlowStatistics] = {}
        self.weighed: set[int] = set()
        self.sizes: Counter[str] = Counter()
        self.quality: dict[str, list[float]] = {}
        self.entries = {s.name: s for s in collection.manifest.shards} if collection.manifest else {}
        self.progress: Any = None

    def survey(self) -> None:
        """Read lengths, episodes and keys from the indexes alone."""
        from tqdm import tqdm

        episodes: set[bytes] = set()
        book, findings = KeyBook(), self.collection.findings
        for number, shard in self.collection.opened():
            self.starts[number] = self.summary.samples
            self.summary.samples += len(shard)
            self.summary.bytes += size_of(shard.path)
            self.summary.shards += 1
            episodes.update(np.unique(shard.index["episode"]).tolist())
            book.add(shard)
            entry = self.entries.get(shard.path.name)
            if entry and entry.samples != len(shard):
                findings.append(
                    Finding(str(shard.path), f"has {len(shard)} samples, the manifest says {entry.samples}")
                )
        findings += book.findings()
        self.summary.episodes = len(episodes)
        self.chosen = evenly(self.summary.samples, self.limit)
        self.weighed = set(self.chosen[evenly(len(self.chosen), SIZED)].tolist())
        total = self.summary.samples if self.verify else len(self.chosen)
        self.progress = tqdm(total=total, unit=" samples", desc="reading", disable=None, leave=False)

    def shard(self, number: int, shard: Shard) -> None:
        """Read the samples of one shard that were selected."""
        start, findings = self.starts.get(number), self.collection.findings
        if start is None:
            return
        entry = self.entries.get(shard.path.name)
        if self.verify and entry:
            findings += check_shard_file(entry, self.collection.folder)
        chosen = (
            self.chosen[np.searchsorted(self.chosen, start) : np.searchsorted(self.chosen, start + len(shard))] - start
        )
        measured = set(chosen.tolist())
        for row in range(len(shard)) if self.verify else chosen.tolist():
            self.progress.update()
            try:
                triplet = shard.read(row)
            except (CorruptShard, ValueError, OSError) as error:
                findings.append(fault_of_sample(shard, row, error))
                continue
            findings += check_sample(shard.path, shard.index[row], triplet)
            self.summary.read += 1
            self.summary.counters.add(triplet)
            if row in measured:
                self._measure(start, shard.path, row, triplet)

    def _measure(self, start: int, path: Path, row: int, t: Triplet) -> None:
        score, trust = self._measure_flow(t) if t.has_flow else (0.0, 1.0)
        self.summary.measured += 1
        for name, value in t.quality.items():
            self.quality.setdefault(name, []).append(value)
        if t.depth_alignment is not None:
            self.quality.setdefault(DEPTH_RESIDUAL, []).append(t.depth_alignment.residual)
        self.summary.candidates.append(
            Candidate(start + row, path, row, t.key, t.episode, t.source.frame, score, trust, t.has_flow)
        )
        self.collection.findings += _measure_pictures(path, t, self.summary.pictures)
        if start + row not in self.weighed:
            return
        self.summary.sized += 1
        for name, data in encode_triplet(t).items():
            if name.endswith((".blosc", ".jpg", ".png")):
                self.sizes["flow" if name.endswith(".blosc") else "pictures"] += len(data)

    def _measure_flow(self, t: Triplet) -> tuple[float, float]:
        """Count a sample's flow; its motion and its reliability."""
        measured = measure(t)
        if t.depth_unit not in self.flow:
            self.flow[t.depth_unit] = FlowStatistics(t.depth_unit)
        self.flow[t.depth_unit].add(t, measured)
        return measured.score, score_of(t, measured).value

    def finish(self) -> ShardSummary:
        self.progress.close()
        summary = self.summary
        summary.flow = [self.flow[unit].result() for unit in sorted(self.flow)]
        summary.quality = {
            name: {"min": min(values), "p50": float(np.median(values)), "max": max(values)}
            for name, values in self.quality.items()
        }
        if summary.sized:
            sizes = {kind: self.sizes[kind] / summary.sized for kind in ("pictures", "flow")}
            whole = summary.bytes / summary.samples
            summary.bytes_per_sample = {"all": whole, **sizes, "rest": whole - sum(sizes.values())}
        summary.findings, summary.notes = self.collection.findings, self.collection.notes
        return summary


def evenly(total: int, limit: int) -> np.ndarray:
    """At most ``limit`` whole numbers below ``total``, evenly spread, each once."""
    if limit <= 0 or total <= 0:
        return np.zeros(0, np.int64)
    count = min(total, limit)
    return (np.arange(count) * total + total // 2) // count if count < total else np.arange(total)


def fault_of_sample(shard: Shard, row: int, error: Exception) -> Finding:
    """A finding that names a sample which cannot be read."""
    key = shard.index[row]["key"].decode(errors="replace")
    return Finding(str(shard.path), str(error).removeprefix(f"{shard.path}: ").removeprefix(f"sample {key} "), key)


def _measure_pictures(path: Path, t: Triplet, sizes: Counter[str]) -> Iterable[Finding]:
    for role, data in t.images.items():
        picture = decode_stored_picture(data)
        if picture is None:
            yield Finding(str(path), f"its picture {role!r} does not decode", t.key)
            continue
        height, width = picture.shape[:2]
        sizes[f"{role}, {width} x {height}"] += 1
        if role == "image" and (width, height) != tuple(t.camera.size):
            wanted = f"{t.camera.size[0]} x {t.camera.size[1]}"
            yield Finding(str(path), f"its picture is {width} x {height}, its camera says {wanted}", t.key)
