"""All shards of a build as one numbered sequence of samples."""

from pathlib import Path
from typing import Any

import numpy as np

from schemas.locations import StorePath
from schemas.manifest import BadManifest, Manifest, folder_of, read_manifest, read_statistics
from schemas.shard_formats import INDEX_DTYPE, CorruptShard, Shard, open_shard
from schemas.triplet import Triplet


class ShardSet:
    """Random access to the samples of a finished build.

    Attributes:
        folder: the manifest's folder.
        manifest: its contents.
        index: one row per sample over all shards (``schemas.shard_formats.INDEX_DTYPE``).
    """

    def __init__(self, path: Path):
        """Open a folder of shards or its manifest.

        Raises:
            BadManifest: the build is not finished or its manifest is damaged.
            CorruptShard: a shard or an index is missing or damaged; the message names it. No shard is silently
                left out.
        """
        self.manifest: Manifest = read_manifest(path)
        self.folder = folder_of(path)
        self._shards: list[Shard] = self._opened()
        for entry, shard in zip(self.manifest.shards, self._shards, strict=True):
            if len(shard) != entry.samples:
                raise CorruptShard(f"{shard.path} has {len(shard)} samples, the manifest says {entry.samples}")
            if shard.index_sha256 != entry.index_sha256:
                raise CorruptShard(f"{shard.path}: its index is not the one that was written: its SHA-256 differs")
        self._starts = np.cumsum([0] + [len(s) for s in self._shards])
        self.index = np.concatenate([np.zeros(0, INDEX_DTYPE), *(s.index for s in self._shards)])
        if len(self) != self.manifest.samples:
            raise BadManifest(f"{path} names {self.manifest.samples} samples, its shards hold {len(self)}")

    def _opened(self) -> list[Shard]:
        if isinstance(self.folder, StorePath):
            from schemas.shard_formats._stored import open_stored

            return open_stored(self.folder, self.manifest.shards)
        return [open_shard(self.folder / entry.name) for entry in self.manifest.shards]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, number: int, flow: bool = True) -> Triplet:
        """Sample ``number`` of the set, its checksum verified.

        Args:
            flow: see ``schemas.shard_formats.Shard.read``.

        Raises:
            CorruptShard: naming shard and sample.
            IndexError: the set has no such sample.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._shards[shard].read(int(number - self._starts[shard]), flow)

    def statistics(self) -> dict[str, Any]:
        """Statistics of states and actions (``schemas.manifest.read_statistics``)."""
        return read_statistics(self.folder, self.manifest)

    def close(self) -> None:
        """Close all shards."""
        for shard in self._shards:
            shard.close()
