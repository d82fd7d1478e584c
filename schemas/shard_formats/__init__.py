"""Shard formats: how samples are laid out in files. There are two, each a module of this folder.

Both store the same samples and return equal ones. A format's module is imported when it is used.
"""

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np

from schemas.sample_codec import Members
from schemas.suggestions import did_you_mean
from schemas.triplet import Triplet

INDEX_DTYPE = np.dtype([("key", "S96"), ("episode", "S16"), ("offset", "<i8"), ("size", "<i8"), ("crc32c", "<u4")])
"""One row per sample. For a format without byte ranges, offset is the row and size the bytes of its pictures."""


class CorruptShard(ValueError):
    """A shard, its index or a sample in it is not what was written; the message names file and sample."""


class UnfitSamples(ValueError):
    """Samples that cannot be stored together in a shard of this format; the message says what to do."""


@dataclass(frozen=True)
class ShardFile:
    """The manifest's entry of one shard.

    Attributes:
        name: file or folder name, relative to the manifest.
        sha256: of the file's bytes, or of a folder's files in order of their names.
        index_sha256: of the index sidecar's bytes; empty when the index is inside the shard.
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
        index: one row per sample (``INDEX_DTYPE``).
        index_sha256: as in ``ShardFile``, of the index that was read.
    """

    path: Path
    index: np.ndarray
    index_sha256: str

    def __len__(self) -> int: ...

    def read(self, row: int, flow: bool = True) -> Triplet:
        """The sample of a row, its CRC-32C checked.

        Args:
            flow: decode the flow too; without, the sample is like one of a build without flow, and comes sooner.

        Raises:
            CorruptShard: naming shard and sample.
        """
        ...

    def close(self) -> None: ...


Samples = Iterable[tuple[str, str, Members]]
"""(key, episode digest, members) of each sample, in the order in which they are stored."""


FORMATS = {"webdataset": ".tar", "zarr": ".zarr"}
"""Name suffix of each format's shards."""


@runtime_checkable
class ShardFormat(Protocol):
    """The functions that a format's module defines; see the functions of the same names here."""

    def write_shard(self, folder: Path, stem: str, samples: Samples) -> ShardFile: ...

    def open_shard(self, path: Path) -> Shard: ...

    def shard_digests(self, path: Path) -> tuple[str, str]: ...


def check_format(format_name: str) -> None:
    """Refuse an unknown format name.

    Raises:
        ValueError: the message lists the formats.
    """
    if format_name not in FORMATS:
        meant = did_you_mean(format_name, FORMATS)
        raise ValueError(f"no shard format is called {format_name!r}; there are: {', '.join(FORMATS)}{meant}")


def _module(format_name: str) -> ShardFormat:
    check_format(format_name)
    return cast(ShardFormat, importlib.import_module(f"{__name__}.{format_name}"))


def write_shard(format_name: str, folder: Path, stem: str, samples: Samples) -> ShardFile:
    """Write a shard atomically; equal samples give the same bytes.

    Raises:
        UnfitSamples: the format cannot store these samples together.
        OSError: it cannot be written; no part of it is left.
    """
    return _module(format_name).write_shard(folder, stem, samples)


def open_shard(path: Path) -> Shard:
    """Open a shard by its path; the name's suffix gives the format.

    Raises:
        CorruptShard: the shard or its index is missing or damaged.
        ValueError: the name is of no known format.
    """
    return _format_of(path).open_shard(path)


def _format_of(path: Path) -> ShardFormat:
    for name, suffix in FORMATS.items():
        if path.name.endswith(suffix):
            return _module(name)
    raise ValueError(f"{path} is no shard: a shard's name ends in {' or '.join(FORMATS.values())}")


def shard_digests(path: Path) -> tuple[str, str]:
    """SHA-256 of a shard and of its index sidecar (empty where there is none), as ``ShardFile`` holds them.

    Raises:
        CorruptShard: a file is missing.
    """
    return _format_of(path).shard_digests(path)


def suffix_of(format_name: str) -> str:
    """Name suffix of a format's shards."""
    check_format(format_name)
    return FORMATS[format_name]


def shards_in(folder: Path) -> Iterator[Path]:
    """The shards in a folder, sorted by name."""
    suffixes = tuple(FORMATS.values())
    yield from sorted(p for p in folder.iterdir() if p.name.endswith(suffixes) and not p.name.startswith("."))
