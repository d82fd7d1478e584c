"""Shard formats: how samples are laid out in files. One module is one format (see ``schemas.plugins``).

A format module defines ``Config``, ``SUFFIX``, ``write_shard``, ``open_shard`` and ``shard_digests``; both formats hold
the same samples and read back equal.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from schemas.plugins import load_plugin, plugin_names
from schemas.sample_codec import Members
from schemas.triplet import Triplet

INDEX_DTYPE = np.dtype([("key", "S96"), ("episode", "S16"), ("offset", "<i8"), ("size", "<i8"), ("crc32c", "<u4")])
"""One row a sample. For a format without byte ranges, offset is the row and size the bytes of its pictures."""


class CorruptShard(ValueError):
    """A shard, its index or a sample in it is not what was written; the message names file and sample."""


class UnfitSamples(ValueError):
    """Samples that cannot stand together in a shard of this format; the message says what to do."""


@dataclass(frozen=True)
class ShardFile:
    """What the manifest keeps of one shard.

    Attributes:
        name: file or folder name, relative to the manifest.
        sha256: of the file's bytes, or of a folder's files in order of their names.
        index_sha256: of the index sidecar's bytes; empty when the index lies inside.
    """

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str


@runtime_checkable
class Shard(Protocol):
    """An open shard: random access by row.

    Attributes:
        index: one row a sample (``INDEX_DTYPE``).
        index_sha256: as in ``ShardFile``, of the index that was read.
    """

    path: Path
    index: np.ndarray
    index_sha256: str

    def __len__(self) -> int: ...

    def read(self, row: int) -> Triplet:
        """The sample of a row, its CRC-32C checked.

        Raises:
            CorruptShard: naming shard and sample.
        """
        ...

    def close(self) -> None: ...


Samples = Iterable[tuple[str, str, Members]]
"""(key, episode digest, members) of each sample, in the order in which they are stored."""


def write_shard(format_name: str, folder: Path, stem: str, samples: Samples) -> ShardFile:
    """Write a shard so that it is whole or absent; the same bytes for the same samples.

    Raises:
        UnfitSamples: the format cannot hold just these together.
        OSError: it cannot be written; nothing of it stands there.
    """
    return load_plugin(__name__, format_name).write_shard(folder, stem, samples)


def open_shard(path: Path) -> Shard:
    """Open a shard by its path; the format is told by the name.

    Raises:
        CorruptShard: the shard or its index is missing or damaged.
        ValueError: the name is of no known format.
    """
    return _format_of(path).open_shard(path)


def _format_of(path: Path):
    modules = [load_plugin(__name__, name) for name in plugin_names(__name__)]
    for module in modules:
        if path.name.endswith(module.SUFFIX):
            return module
    raise ValueError(f"{path} is no shard: a shard's name ends in {' or '.join(m.SUFFIX for m in modules)}")


def shard_digests(path: Path) -> tuple[str, str]:
    """SHA-256 of a shard and of its index sidecar (empty where there is none), as ``ShardFile`` holds them.

    Raises:
        CorruptShard: a file is missing.
    """
    return _format_of(path).shard_digests(path)


def suffix_of(format_name: str) -> str:
    """How the names of a format's shards end."""
    return load_plugin(__name__, format_name).SUFFIX


def shards_in(folder: Path) -> Iterator[Path]:
    """The shards in a folder, by name."""
    suffixes = tuple(suffix_of(name) for name in plugin_names(__name__))
    yield from sorted(p for p in folder.iterdir() if p.name.endswith(suffixes) and not p.name.startswith("."))
