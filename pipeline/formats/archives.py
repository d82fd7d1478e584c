"""``*.tar.gz`` files from untrusted sources, unpacked safely.

A member is written only if it is a plain file with a new name inside the folder. Links, devices, names that lead out
of the folder, duplicates and sizes beyond the limit are refused, each with a reason. The rest of the archive is
unpacked.
"""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from schemas.file_cache import local_file

SUFFIXES = (".tar.gz", ".tgz")
CHUNK = 1 << 20
MOST_MEMBERS = 1_000_000
MOST_REFUSED = 100
MOST_PADDING = 16
LONGEST_NAME, LONGEST_PART = 1024, 255
DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError)
"""The exceptions that reading raises if the bytes are not such an archive."""


@dataclass
class Unpacked:
    """The result of unpacking an archive.

    Attributes:
        most_bytes: the limit that was set.
        files, bytes: number of unpacked files, and their total declared size.
        complete: the limit was not exceeded.
        sound: no checksum failed; else no file of it is used, because it is not known which one is damaged.
        refused: reason and sentence for each member that was not unpacked.
        damage: why the archive could not be read to its end, or None.
    """

    most_bytes: int
    files: int = 0
    bytes: int = 0
    complete: bool = True
    sound: bool = True
    refused: list[tuple[str, str]] = field(default_factory=list)
    damage: str | None = None


class TooLarge(ValueError):
    """The archive declares more than may be unpacked."""


def is_archive(name: str) -> bool:
    """Whether a file name is that of a packed archive."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def archive_key(path: Path) -> str:
    """32 hexadecimal digits that identify an archive by its content: its size, its beginning and its end, where gzip
    stores a checksum of all data.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with local_file(path) as here, open(here, "rb") as file:
        digest.update(file.read(1 << 16))
        file.seek(max(size - (1 << 16), 0))
        digest.update(file.read(1 << 16))
    return digest.hexdigest()[:32]


def unpack(path: Path, folder: Path, most_bytes: int, whole: Callable[[str], bool] = lambda name: True) -> Unpacked:
    """Unpack an archive into an empty folder, in one pass.

    Args:
        most_bytes: limit of the total declared size of all files.
        whole: whether a file's content is wanted; the others become sparse files of their size, which take no space.

    Raises:
        OSError: the archive cannot be read, or the folder cannot be written.
    """
    result, taken = Unpacked(most_bytes), _Names()
    try:
        with local_file(path) as here, gzip.open(here, "rb") as stream, _opened(stream) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # tarfile keeps every member in memory
                _take(member, archive.fileobj, folder, most_bytes, whole, taken, result)
            _finish(stream)
    except TooLarge as error:
        result.complete = False
        result.refused.append(("archive_too_large", str(error)))
    except DAMAGE as error:
        result.sound = not isinstance(error, gzip.BadGzipFile)
        result.damage = " ".join(str(error).split()) or type(error).__name__
    return result


def _finish(stream: Any) -> None:
    """Read the data after the last member, so that gzip checks its checksum of all data."""
    for _ in range(MOST_PADDING):
        if not stream.read(CHUNK):
            return
    raise ValueError(f"more than {MOST_PADDING * CHUNK:,} bytes follow its last member")


def _take(
    member: tarfile.TarInfo,
    stream: Any,
    folder: Path,
    most_bytes: int,
    whole: Callable[[str], bool],
    taken: "_Names",
    result: Unpacked,
) -> None:
    """Unpack one member, or record why it is refused."""
    fault = _fault(member) or taken.fault(member)
    if fault is not None:
        result.refused.append(fault)
        if len(result.refused) >= MOST_REFUSED:
            raise ValueError(f"{MOST_REFUSED} members were refused; the rest was not looked at")
        return
    if member.isdir():
        return
    if member.size < 0 or result.bytes + member.size > most_bytes:
        raise TooLarge(
            f"with {_said(member.name)} it would unpack to {result.bytes + member.size:,} bytes, {most_bytes:,} are "
            "allowed"
        )
    if result.files >= MOST_MEMBERS:
        raise ValueError(f"it has more than {MOST_MEMBERS:,} files")
    _write(stream, member, folder / member.name, whole(member.name))
    result.files, result.bytes = result.files + 1, result.bytes + member.size


def _fault(member: tarfile.TarInfo) -> tuple[str, str] | None:
    said, name = _said(member.name), PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or not name.parts:
        return "archive_escape", f"{said} leads out of the archive's folder"
    if not member.name.isprintable() or len(member.name) > LONGEST_NAME or _longest_part(name) > LONGEST_PART:
        return "archive_bad_name", f"{said} is no name for a file"
    if member.issym() or member.islnk():
        return "archive_link", f"{said} is a link to {_said(member.linkname)}"
    if member.isdev():
        return "archive_device", f"{said} is a device or a pipe"
    if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        return "archive_unknown_member", f"{said} is neither a plain file nor a folder"
    return None


def _longest_part(name: PurePosixPath) -> int:
    return max(len(part.encode(errors="surrogateescape")) for part in name.parts)


class _Names:
    """The names that an archive has used."""

    def __init__(self) -> None:
        self._files: set[PurePosixPath] = set()
        self._folders: set[PurePosixPath] = set()

    def fault(self, member: tarfile.TarInfo) -> tuple[str, str] | None:
        """Why a name conflicts with earlier ones, or None; a name without conflict is added."""
        name = PurePosixPath(member.name)
        parents = [parent for parent in name.parents if parent.parts]
        there = name in self._files or any(parent in self._files for parent in parents)
        if there or (not member.isdir() and name in self._folders):
            return "archive_duplicate", f"{_said(member.name)} stands in it twice, or both as a file and as a folder"
        self._folders.update(parents)
        (self._folders if member.isdir() else self._files).add(name)
        return None


def _write(stream: Any, member: tarfile.TarInfo, path: Path, whole: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    left = member.size
    try:
        with open(os.open(path, flags, 0o644), "wb") as file:
            while left:
                data = stream.read(min(left, CHUNK))
                if not data:
                    raise EOFError(f"it ends within {_said(member.name)}")
                if whole:
                    file.write(data)
                left -= len(data)
            if not whole:
                file.truncate(member.size)
    except DAMAGE:
        path.unlink()  # what is there is whole
        raise


def _opened(stream: Any) -> Any:
    bounded: Any = _Bounded(stream)
    return tarfile.open(fileobj=bounded, mode="r:")


class _Bounded:
    """A stream with a limit on the size of a single read: headers that declare a giant size are refused before they are
    read.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK:
            raise ValueError(f"a header declares {size:,} bytes")
        return self._stream.read(size)

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int) -> int:
        return self._stream.seek(offset)


def _said(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:117]}...")
