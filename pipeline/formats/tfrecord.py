"""TFRecord files: records of bytes, each checked by a masked CRC-32C.

A record is ``length u64 | masked crc of length u32 | data | masked crc of data u32``, all little endian. An index of a
file reads the 12 bytes before each record and seeks over the rest, so that many workers can share one file.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from schemas.locations import StorePath

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_MASK = 0xA282EAD8


class DamagedRecord(ValueError):
    """A record does not hold what was written."""


@dataclass(frozen=True)
class RecordIndex:
    """The positions of the records in a file.

    Attributes:
        spans: offset and size in bytes of each record's data.
        damage: why the file cannot be read to its end, or None.
    """

    spans: tuple[tuple[int, int], ...]
    damage: str | None


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, rotated right by 15 bits and shifted by a constant, as the format stores it."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def index_records(path: Path) -> RecordIndex:
    """Find a file's records; if the file is damaged, those before the first damage.

    Raises:
        OSError: the file cannot be read.
    """
    spans: list[tuple[int, int]] = []
    size = path.stat().st_size
    offset = 0
    with _ranges(path) as read:
        while offset < size:
            header = read(offset, min(_HEADER.size, size - offset))
            damage = _header_damage(header, len(spans), size - offset)
            if damage is not None:
                return RecordIndex(tuple(spans), damage)
            length = _HEADER.unpack(header)[0]
            spans.append((offset + _HEADER.size, length))
            offset += _HEADER.size + length + _CRC.size
    return RecordIndex(tuple(spans), None)


@contextmanager
def _ranges(path: Path) -> Iterator[Callable[[int, int], bytes]]:
    """A function that reads as many bytes from an offset as there are, up to a number; of a store, one request each."""
    if isinstance(path, StorePath):
        end = path.stat().st_size
        yield lambda offset, count: path.read_range(offset, min(offset + count, end))
        return
    with open(path, "rb", buffering=0) as file:

        def read(offset: int, count: int) -> bytes:
            file.seek(offset)
            return file.read(count)

        yield read


def _header_damage(header: bytes, number: int, left: int) -> str | None:
    if len(header) < _HEADER.size:
        return f"it ends within the header of record {number}"
    length, crc = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != crc:
        return f"the length of record {number} does not match its checksum"
    if left < _HEADER.size + length + _CRC.size:
        return f"it ends within record {number}: {length} bytes are announced and {max(left - 16, 0)} are there"
    return None


def read_record(path: Path, span: tuple[int, int]) -> bytes:
    """One record's data.

    Raises:
        DamagedRecord: it is truncated, or its checksum does not match.
        OSError: the file cannot be read.
    """
    offset, length = span
    with _ranges(path) as read:
        data = read(offset, length + _CRC.size)
    if len(data) < length + _CRC.size:
        raise DamagedRecord(f"{length} bytes are announced and {max(len(data) - _CRC.size, 0)} are there")
    body = data[:length]
    found, stored = masked_crc32c(body), _CRC.unpack(data[length:])[0]
    if found != stored:
        raise DamagedRecord(f"its checksum is {stored:08x} in the file and {found:08x} when computed")
    return body
