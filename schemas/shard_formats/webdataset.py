"""Shards as USTAR archives that the webdataset library can read directly, with an index for random access.

Headers carry no time and no owner, so equal samples give equal bytes. Next to ``NAME.tar`` is ``NAME.index.npy``,
one row per sample (``INDEX_DTYPE``): the byte range of its members with headers, and the CRC-32C of that range.
"""

import hashlib
import io
import mmap
import re
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import google_crc32c
import numpy as np

from schemas.file_cache import local_file
from schemas.files import sha256_of, write_whole, written_whole
from schemas.locations import StorePath
from schemas.sample_codec import Members, decode_triplet
from schemas.sample_metadata import CorruptSample
from schemas.shard_formats import FORMATS, INDEX_DTYPE, CorruptShard, Samples, ShardFile
from schemas.triplet import Triplet

SUFFIX, INDEX_SUFFIX = FORMATS["webdataset"], ".index.npy"
BLOCK = 512
NAME, LARGEST = 100, 8**11
"""Bytes of a name in a header, and the first size that its eleven octal digits cannot hold."""
MEMBER = re.compile(rb"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""Allowed member names after ``key.``: none may lead out of the folder in which the archive is unpacked."""

OCTAL = re.compile(rb"[0-7]{11}")
NO_FOLDER = bytes(155)
"""The field of a header for the folder of a long name."""


@dataclass(frozen=True)
class Config:
    """No options."""


def pack_sample(key: str, members: Members) -> bytes:
    """A sample's members as tar entries ``key.name``, sorted by name, padded to blocks.

    Raises:
        ValueError: ``unpack_sample`` would not accept a name, or it is too long with its key (100 bytes).
    """
    chunks = []
    for name in sorted(members):
        if not MEMBER.fullmatch(name.encode()):
            raise ValueError(f"sample {key}: a member cannot be called {name!r}")
        data = members[name]
        chunks += [_header(f"{key}.{name}", len(data)), data, b"\0" * (-len(data) % BLOCK)]
    return b"".join(chunks)


def _header(name: str, size: int) -> bytes:
    """The header of a plain file, as ``tarfile`` makes it, which takes ten times as long.

    Raises:
        ValueError: the name is too long.
    """
    encoded = name.encode()
    if len(encoded) > NAME or size >= LARGEST or not name.isascii():
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = size, 0, 0o644
        return entry.tobuf(tarfile.USTAR_FORMAT)
    made = bytearray(_empty_header())
    made[: len(encoded)] = encoded
    made[124:135] = b"%011o" % size
    made[148:156] = b"%06o\0 " % (sum(made) + 8 * ord(" "))  # the sum counts its own field as spaces
    return bytes(made)


@cache
def _empty_header() -> bytes:
    """The header of an empty file without name and checksum."""
    entry = tarfile.TarInfo("")
    entry.mtime, entry.mode = 0, 0o644
    made = bytearray(entry.tobuf(tarfile.USTAR_FORMAT))
    made[148:156] = bytes(8)
    return bytes(made)


def unpack_sample(key: str, region: bytes) -> Members:
    """The members in a sample's byte range.

    Raises:
        CorruptSample: an entry is not one of this sample's plain files, or runs past the range.
    """
    members: Members = {}
    position, prefix = 0, f"{key}.".encode()
    while position < len(region):
        header = bytes(region[position : position + BLOCK])
        name = header[:100].rstrip(b"\0")
        plain = len(header) == BLOCK and header[156:157] == b"0" and header[345:500] == NO_FOLDER
        if not plain or not name.startswith(prefix) or not MEMBER.fullmatch(name, len(prefix)):
            raise CorruptSample(f"sample {key}: the entry at byte {position} of its range is not one of its members")
        if not OCTAL.fullmatch(header, 124, 135):
            raise CorruptSample(f"sample {key}: the entry at byte {position} of its range has no size")
        size = int(header[124:135], 8)
        begin = position + BLOCK
        member = name[len(prefix) :].decode()
        if begin + size > len(region) or member in members:
            raise CorruptSample(f"sample {key}: member {member!r} is doubled or runs past the sample's end")
        members[member] = region[begin : begin + size]
        position = begin + size + (-size % BLOCK)
    return members


def write_shard(folder: Path, stem: str, samples: Samples) -> ShardFile:
    """Write ``stem.tar`` and ``stem.index.npy``; see ``schemas.shard_formats.write_shard``."""
    regions = ((key, episode, pack_sample(key, members)) for key, episode, members in samples)
    return write_regions(folder, stem, regions)


def write_regions(folder: Path, stem: str, regions) -> ShardFile:
    """Like ``write_shard`` for samples that are already packed: (key, episode digest, byte range)."""
    path, rows, offset, digest = folder / f"{stem}{SUFFIX}", [], 0, hashlib.sha256()
    with written_whole(path) as file:
        for key, episode, region in regions:
            rows.append((key.encode(), episode.encode(), offset, len(region), google_crc32c.value(bytes(region))))
            file.write(region)
            digest.update(region)
            offset += len(region)
        file.write(b"\0" * (2 * BLOCK))
        digest.update(b"\0" * (2 * BLOCK))
    buffer = io.BytesIO()
    np.save(buffer, np.array(rows, INDEX_DTYPE), allow_pickle=False)
    write_whole(index_path(path), buffer.getvalue())
    index_sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    return ShardFile(path.name, len(rows), offset + 2 * BLOCK, digest.hexdigest(), index_sha256)


def open_shard(path: Path) -> "TarShard":
    """Map a shard into memory; see ``schemas.shard_formats.open_shard``."""
    return TarShard(path)


def shard_digests(path: Path) -> tuple[str, str]:
    """See ``schemas.shard_formats.shard_digests``."""
    for file in (path, index_path(path)):
        if not file.is_file():
            raise CorruptShard(f"{file} is missing")
    return sha256_of(path), sha256_of(index_path(path))


class TarShard:
    """An open tar shard. The file is memory-mapped: only what is read is loaded."""

    def __init__(self, path: Path):
        self.path = path
        self.index, self.index_sha256 = _load_index(path)
        check_size(path, path.stat().st_size, self.index)
        with local_file(path) as here, open(here, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.index)

    def bytes_of(self, start: int, stop: int) -> bytes:
        """Bytes of the tar."""
        return self._map[start:stop]

    def region(self, row: int) -> bytes:
        """The byte range of a sample, its CRC-32C checked.

        Raises:
            CorruptShard: the bytes are not those that were written.
        """
        entry = self.index[row]
        data = self.bytes_of(int(entry["offset"]), int(entry["offset"] + entry["size"]))
        if google_crc32c.value(data) != entry["crc32c"]:
            key = entry["key"].decode(errors="replace")
            raise CorruptShard(f"{self.path}: sample {key} is damaged: its CRC-32C differs from the index")
        return data

    def read(self, row: int, flow: bool = True) -> Triplet:
        """See ``schemas.shard_formats.Shard.read``."""
        key, episode = (self.index[row][name].decode(errors="replace") for name in ("key", "episode"))
        try:
            triplet = decode_triplet(key, unpack_sample(key, self.region(row)), flow)
        except CorruptSample as error:
            raise CorruptShard(f"{self.path}: {error}") from error
        if triplet.episode != episode:
            raise CorruptShard(f"{self.path}: sample {key} is of episode {triplet.episode}, its index says {episode}")
        return triplet

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()


def check_size(path: Path, size: int, index: np.ndarray) -> None:
    """Refuse a tar that is not as long as its index says.

    Raises:
        CorruptShard: naming it.
    """
    end = int((index["offset"] + index["size"]).max(initial=0)) + 2 * BLOCK
    if size != end:
        raise CorruptShard(f"{path} has {size} bytes, its index says {end}: it was cut, extended or mixed up")


def read_region(path: Path, offset: int, size: int) -> bytes:
    """A byte range of a tar, unchecked."""
    if isinstance(path, StorePath):
        return path.read_range(offset, offset + size)
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def read_index(path: Path) -> np.ndarray:
    """The index of a tar shard, from its sidecar.

    Raises:
        CorruptShard: the shard or the sidecar is missing, or is no index.
    """
    return _load_index(path)[0]


def _load_index(path: Path) -> tuple[np.ndarray, str]:
    """The index and the SHA-256 of its bytes."""
    sidecar = index_path(path)
    for file in (path, sidecar):
        if not file.is_file():
            raise CorruptShard(f"{file} is missing")
    return load_index(sidecar, sidecar.read_bytes())


def load_index(sidecar: Path, data: bytes) -> tuple[np.ndarray, str]:
    """An index from the bytes of its file, and their SHA-256.

    Raises:
        CorruptShard: it is no index; the message names the file.
    """
    try:
        index = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # for a damaged header numpy raises tokenizer errors and others
        raise CorruptShard(f"{sidecar} is no index of a shard: {error}") from error
    if index.dtype != INDEX_DTYPE or index.ndim != 1:
        raise CorruptShard(f"{sidecar} is no index of a shard: its rows are {index.dtype}")
    return index, hashlib.sha256(data).hexdigest()


def index_path(path: Path) -> Path:
    """Path of a tar shard's index."""
    return path.with_name(path.name.removesuffix(SUFFIX) + INDEX_SUFFIX)
