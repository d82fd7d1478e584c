"""Checks of files and samples against what the build recorded; every failure is named."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.inspection.shard_paths import Finding
from schemas.files import digest_of, sha256_of
from schemas.manifest import NAME as MANIFEST_NAME
from schemas.manifest import Manifest
from schemas.shard_formats import CorruptShard, Shard, ShardFile, shard_digests
from schemas.triplet import Triplet


def check_manifest(manifest: Manifest, folder: Path) -> list[Finding]:
    """Contradictions within the manifest itself."""
    file, findings = str(folder / MANIFEST_NAME), []
    if manifest.recipe_digest != digest_of(manifest.recipe):
        findings.append(Finding(file, "the recipe does not have the SHA-256 that stands beside it"))
    total = sum(s.samples for s in manifest.shards)
    if total != manifest.samples:
        findings.append(Finding(file, f"says {manifest.samples} samples, its shards add up to {total}"))
    kept = manifest.counts.get("kept", total)
    if kept != total:
        findings.append(Finding(file, f"says that {kept} windows were kept, its shards hold {total} samples"))
    return findings


def check_files(manifest: Manifest, folder: Path) -> Iterable[Finding]:
    """Check the SHA-256 of the files beside the shards."""
    for name, expected in sorted(manifest.files.items()):
        yield from _compare(folder / name, expected)


def check_shard_file(entry: ShardFile, folder: Path) -> Iterable[Finding]:
    """Check size and SHA-256 of a shard and of its index. A missing file is reported when the shard is opened."""
    path = folder / entry.name
    if not path.exists():
        return
    size = size_of(path)
    if size != entry.bytes:
        yield Finding(str(path), f"has {size:,} bytes, the manifest says {entry.bytes:,}")
    try:
        shard, index = shard_digests(path)
    except CorruptShard:
        return
    if shard != entry.sha256:
        yield Finding(str(path), "is not the shard that was written: its SHA-256 differs from the manifest")
    if index != entry.index_sha256:
        yield Finding(str(path), "its index is not the one that was written: its SHA-256 differs from the manifest")


def check_sample(path: Path, row: np.void, triplet: Triplet) -> Iterable[Finding]:
    """Check that a sample agrees with its row in the index."""
    key = row["key"].decode(errors="replace")
    if triplet.episode != row["episode"].decode(errors="replace"):
        yield Finding(str(path), "the index gives it another episode than the sample itself", key)


class KeyBook:
    """Finds keys that occur more than once. It stores eight bytes a key, so that millions fit into memory."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._hashes: list[np.ndarray] = []

    def add(self, shard: Shard) -> None:
        """Record the keys of a shard."""
        hashes = [int.from_bytes(hashlib.blake2b(k, digest_size=8).digest(), "little") for k in shard.index["key"]]
        self._paths.append(shard.path)
        self._hashes.append(np.array(hashes, np.uint64))

    def findings(self) -> Iterable[Finding]:
        """A finding for every row whose key occurred before."""
        if not self._hashes:
            return
        hashes = np.concatenate(self._hashes)
        starts = np.cumsum([0] + [len(h) for h in self._hashes])
        _, first = np.unique(hashes, return_index=True)
        for place in np.setdiff1d(np.arange(len(hashes)), first):
            shard = int(np.searchsorted(starts, place, side="right")) - 1
            yield Finding(str(self._paths[shard]), f"row {place - starts[shard]} repeats the key of an earlier sample")


def size_of(path: Path) -> int:
    """Bytes of a shard, which is a file or a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _compare(path: Path, expected: str) -> Iterable[Finding]:
    if not path.is_file():
        yield Finding(str(path), "is missing, the manifest names it")
    elif sha256_of(path) != expected:
        yield Finding(str(path), "is not the file that was written: its SHA-256 differs from the manifest")
