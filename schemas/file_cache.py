"""A cache on this machine's disk for files of stores: fetched once, shared by all processes, within a size limit.

Each file has a name that stands for its content (``key``), and a lock beside it: a process that uses the file holds the
lock shared, one that fetches or removes it holds it alone. The least recently used files that nobody holds are removed
first. A file that is needed is fetched even if nothing can be removed, so the disk holds at most the limit and the
files in use.
"""

import fcntl
import hashlib
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from schemas.errors import StoreFailed
from schemas.locations import StorePath
from schemas.locks import lock_file, locked

GIGABYTE = 10**9
DEFAULT_GIGABYTES = 50.0
PIECE = 16 << 20


class Held:
    """A cached file that is not removed while this object exists.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, lock: int):
        self.path = path
        self._close = weakref.finalize(self, os.close, lock)

    def close(self) -> None:
        """Let the file be removed when room is needed."""
        self._close()


class FileCache:
    """A folder of cached files.

    Attributes:
        folder: holds them and their locks.
        limit: bytes that they may have together.
    """

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit = folder, limit

    def held(self, key: str, size: int, fetch: Callable[[Path], None]) -> Held:
        """The file of a content, fetched if it is not there.

        Args:
            key: names the content; a file name.
            size: bytes that the file will have.
            fetch: writes the content to a new file.

        Raises:
            StoreFailed: the cache cannot be written; or as ``fetch`` raises.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while True:
                held = self._there(key)
                if held is not None:
                    return held
                self._fetch(key, size, fetch)
        except OSError as error:
            raise StoreFailed(
                f"the cache {self.folder} cannot be written ({error.strerror or error}): make room there, name another "
                "folder in LAMP_CACHE, or give a smaller --cache"
            ) from error

    def has(self, key: str) -> bool:
        """Whether the file is there now."""
        return (self.folder / key).is_file()

    def _there(self, key: str) -> Held | None:
        path, lock = self.folder / key, lock_file(self._lock_path(key), fcntl.LOCK_SH)
        if path.is_file():
            with suppress(OSError):
                os.utime(self._lock_path(key))
            return Held(path, lock)
        os.close(lock)
        return None

    def _fetch(self, key: str, size: int, fetch: Callable[[Path], None]) -> None:
        path, aside = self.folder / key, self.folder / f".{key}.partial"
        with locked(self._lock_path(key), fcntl.LOCK_EX):
            if path.is_file():
                return
            try:
                with locked(self.folder / ".room.lock", fcntl.LOCK_EX):
                    self._make_room(size)
                    with open(aside, "wb") as file:
                        file.truncate(size)  # counts as used from now on
                fetch(aside)
                os.replace(aside, path)
            except BaseException:
                with suppress(OSError):
                    aside.unlink()
                raise

    def _make_room(self, needed: int) -> None:
        """Remove files that nobody holds, least recently used first, until ``needed`` bytes fit."""
        used: dict[str, int] = {}
        with os.scandir(self.folder) as found:
            for entry in found:
                if not entry.name.endswith(".lock"):
                    with suppress(FileNotFoundError):
                        used[entry.name] = entry.stat().st_size
        total = sum(used.values()) + needed
        if total <= self.limit:
            return
        for name in sorted(used, key=self._last_use):
            if total <= self.limit:
                return
            key = name.removeprefix(".").removesuffix(".partial") if name.startswith(".") else name
            with suppress(BlockingIOError), locked(self._lock_path(key), fcntl.LOCK_EX | fcntl.LOCK_NB):
                (self.folder / name).unlink(missing_ok=True)
                total -= used[name]

    def _last_use(self, name: str) -> float:
        try:
            return self._lock_path(name).stat().st_mtime
        except OSError:
            return 0.0

    def _lock_path(self, key: str) -> Path:
        return self.folder / f"{key}.lock"


def cache_folder() -> Path:
    """Where files of stores are kept: ``LAMP_CACHE``, else ``lamp/files`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    named = os.environ.get("LAMP_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else home / "lamp" / "files"


_limit = int(DEFAULT_GIGABYTES * GIGABYTE)


def limit_cache(gigabytes: float) -> None:
    """Set the size limit of this process's cache."""
    global _limit
    _limit = int(gigabytes * GIGABYTE)


def file_cache() -> FileCache:
    """This machine's cache."""
    return FileCache(cache_folder(), _limit)


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """A file of this machine with the content of a path: the path itself, or for a URL a file of the cache, which
    stays there during the block.

    Raises:
        FileNotFoundError: there is no such object.
        StoreFailed: it cannot be fetched, or the cache cannot be written.
    """
    if not isinstance(path, StorePath):
        yield path
        return
    held = hold(path)
    try:
        yield held.path
    finally:
        held.close()


def hold(path: StorePath) -> Held:
    """The cached file of an object; see ``local_file``."""
    entry = path.entry()
    said = f"{path} {entry.size} {entry.stamp_ns} {entry.etag}"
    key = hashlib.sha256(said.encode()).hexdigest()[:32] + path.suffix
    return file_cache().held(key, entry.size, lambda aside: download(path, entry.size, aside))


def download(path: StorePath, size: int, to: Path) -> None:
    """Fetch an object of this size into a file, piece by piece.

    Raises:
        StoreFailed: it cannot be read, or is gone.
        OSError: the file cannot be written.
    """
    with open(to, "wb") as file:
        for start in range(0, size, PIECE):
            try:
                piece = path.read_range(start, min(start + PIECE, size))
            except FileNotFoundError as error:
                raise StoreFailed(f"{path} was removed while it was read") from error
            file.write(piece)
