"""A disk cache of unpacked archives: each is unpacked once and keyed by its content, within a size limit.

Parquet and video files need random access, and gzip can only be read from its beginning, so an archive is unpacked
before it is read. Listing needs only its description: ``skeleton`` writes that, and a sparse file in place of every
other file. ``lease`` unpacks the whole archive and keeps it from being removed while the lease is held. When the limit
would be exceeded, the least recently used archive is removed first. An archive that a worker is reading stays, so the
disk holds at most the limit or one archive per worker, whichever is more.
"""

import fcntl
import json
import os
import secrets
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.formats.archives import Unpacked, archive_key, unpack
from schemas.files import remove, write_whole
from schemas.locks import lock_file, locked

REPORT = "report.json"
SKELETON, FILES = "skeleton", "files"


class Lease:
    """An unpacked archive that is not removed while this object exists.

    Attributes:
        folder: where its files are.
    """

    def __init__(self, folder: Path, lock: int):
        self.folder = folder
        weakref.finalize(self, os.close, lock)

    def during(self, read: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that the lease is held as long as the function exists."""
        return _Held(self, read)


@dataclass(frozen=True)
class _Held:
    lease: Lease
    read: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.read(*arguments)


class ArchiveCache:
    """A folder of unpacked archives.

    Attributes:
        folder: holds one folder per archive, named by its key.
        limit: total bytes of files.
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = folder, limit

    def skeleton(self, archive: Path) -> tuple[Path, Unpacked]:
        """A folder with the archive's descriptions (``meta/``) and, for each other file, a sparse file of its size; and
        the result of unpacking.

        Raises:
            OSError: the archive cannot be read, or the cache cannot be written.
        """
        place = self._place(archive)
        with locked(_lock_path(place), fcntl.LOCK_EX):
            result = _report(place)
            if result is None or (not result.complete and result.most_bytes < self.limit):
                for before in (place / SKELETON, place / FILES):
                    if before.is_dir():
                        remove(before)
                result = self._unpack(archive, place / SKELETON, _is_description)
                write_whole(place / REPORT, json.dumps(asdict(result)).encode())
        return place / SKELETON, result

    def lease(self, archive: Path) -> Lease:
        """The unpacked archive.

        Raises:
            OSError: as for ``skeleton``.
        """
        place = self._place(archive)
        while True:
            lock = lock_file(_lock_path(place), fcntl.LOCK_SH)
            if (place / FILES).is_dir():
                os.utime(_lock_path(place))
                return Lease(place / FILES, lock)
            os.close(lock)
            _, report = self.skeleton(archive)
            with locked(_lock_path(place), fcntl.LOCK_EX):
                if not (place / FILES).is_dir():
                    self._make_room(report.bytes, place)
                    self._unpack(archive, place / FILES, lambda name: True)

    def clear(self) -> None:
        """Remove all unpacked files that are not being read; descriptions are kept."""
        self._make_room(self.limit, None)

    def _place(self, archive: Path) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / archive_key(archive)

    def _unpack(self, archive: Path, folder: Path, whole: Callable[[str], bool]) -> Unpacked:
        """Unpack into a temporary folder and rename it, so that a folder with the final name is complete."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{folder.name}.*.partial"):  # of a worker that died; we hold the lock
            remove(left)
        aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
        aside.mkdir()
        try:
            result = unpack(archive, aside, self.limit, whole)
            os.replace(aside, folder)
        except BaseException:
            with suppress(OSError):
                remove(aside)
            raise
        return result

    def _make_room(self, needed: int, keep: Path | None) -> None:
        """Remove unpacked archives, least recently used first, until ``needed`` bytes fit; those in use are kept."""
        used = {place: _bytes_of(place) for place in self.folder.iterdir() if (place / FILES).is_dir()}
        for place in sorted(used, key=lambda p: _lock_path(p).stat().st_mtime_ns):
            if sum(used.values()) + needed <= self.limit:
                return
            if place == keep:
                continue
            with suppress(BlockingIOError), locked(_lock_path(place), fcntl.LOCK_EX | fcntl.LOCK_NB):
                remove(place / FILES)
                used.pop(place)


def _is_description(name: str) -> bool:
    return "meta" in PurePosixPath(name).parts[:-1]


def _report(place: Path) -> Unpacked | None:
    """The stored result of an earlier unpacking of an archive."""
    try:
        values = json.loads((place / REPORT).read_bytes())
        return Unpacked(**{**values, "refused": [tuple(item) for item in values["refused"]]})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _bytes_of(place: Path) -> int:
    report = _report(place)
    return report.bytes if report else 0


def _lock_path(place: Path) -> Path:
    return place.with_name(f"{place.name}.lock")
