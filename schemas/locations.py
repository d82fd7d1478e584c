"""Places of data: folders and files of this machine, and URLs such as ``s3://bucket/folder``.

``locate`` turns what a user typed into a path. For a URL this is a ``StorePath``: a ``Path`` whose methods ask the
store, so that code that finds and reads files by the methods of ``Path`` works on both. Whatever opens a file by its
name (``open``, h5py, PyAV) needs it on this machine: ``schemas.file_cache.local_file`` fetches it. Using a
``StorePath`` as a file name is refused with ``StoreFailed``.
"""

import fnmatch
import io
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from schemas.errors import StoreFailed
from schemas.store_file import StoreFile
from schemas.store_listing import Listings
from schemas.stores import SCHEMES, Entry, Store, split_url, store_of

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)")
"""Matches an address as typed, or as ``Path`` collapses its slashes. One letter before the colon is no address."""


def locate(said: str | Path) -> Path:
    """The path of a folder or file that a user named.

    Raises:
        ValueError: it is an address of no known kind, or names no bucket.
    """
    if isinstance(said, StorePath):
        return said
    address = ADDRESS.fullmatch(str(said))
    if address is None:
        bare = str(said).lower().rstrip("/")
        if bare.endswith(":") and bare[:-1] in SCHEMES:
            raise ValueError(f"{bare}// names no bucket, host or data set")
        return Path(said)
    scheme, rest = address[1].lower(), address[2]
    if scheme == "file":
        return Path(f"/{rest}")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"{scheme}://{rest} cannot be used: known are folders of this machine, {known}")
    if "?" in rest or "#" in rest:
        raise ValueError(f"{scheme}://{rest.partition('?')[0]} has a query behind it: signed addresses are not read")
    split_url(f"{scheme}://{rest}")
    return StorePath(f"{scheme}:/{rest}")


def local_path(said: str | Path, name: str) -> Path:
    """A folder or file on this machine.

    Args:
        name: of the option or argument, for the message.

    Raises:
        ValueError: it is a network address.
    """
    address = ADDRESS.fullmatch(str(said))
    if address is not None:
        raise ValueError(
            f"{name} is {address[1]}://{address[2]}, and only folders and files of this machine can be used; copy it "
            "here or mount it, and give that path"
        )
    return Path(said)


def store_name(path: "StorePath") -> tuple[Store, str]:
    """The store of a path, and the name within it."""
    return store_of(str(path))


_LISTINGS = Listings()


def freeze(root: Path) -> None:
    """Take what lies below a URL as unchanging in this process: what was asked once is not asked again.

    Does nothing for a path of this machine.
    """
    if isinstance(root, StorePath):
        _LISTINGS.freeze(str(root))


def list_once(root: Path) -> None:
    """List everything below a URL, in one listing that answers all later questions about names, sizes and times.

    Does nothing for a path of this machine.

    Raises:
        StoreFailed: the store cannot be listed.
    """
    if isinstance(root, StorePath):
        store, name = store_name(root)
        _LISTINGS.keep(str(root), name, store.entries(name))


class StorePath(type(Path())):
    """A folder or object of a store, as a ``Path``.

    Raises (every method that asks the store):
        FileNotFoundError: it does not exist.
        StoreFailed: the store did not answer, or refused.
    """

    def __str__(self) -> str:
        said = super().__str__()
        address = ADDRESS.fullmatch(said)
        return f"{address[1]}://{address[2]}" if address else said

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __reduce__(self) -> Any:
        return StorePath, (str(self),)

    def __fspath__(self) -> NoReturn:
        raise StoreFailed(
            f"{self} lies in a store, and this step opens only files of this machine: copy it here with "
            "lamp-data copy, and give that folder"
        )

    def as_posix(self) -> str:
        """The URL, or a name relative to one."""
        return str(self)

    def is_absolute(self) -> bool:
        """Whether it is a whole URL."""
        return ADDRESS.fullmatch(super().__str__()) is not None

    def absolute(self) -> "StorePath":
        """Itself."""
        return self

    def expanduser(self) -> "StorePath":
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> "StorePath":
        """The same place without ``..``."""
        return StorePath(posixpath.normpath(super().__str__()))

    def is_symlink(self) -> bool:
        """No object is a link."""
        return False

    def _entry(self) -> Entry | None:
        """What the store has under this name, or None."""
        return _LISTINGS.entry(str(self), self._asked)

    def _asked(self) -> Entry | None:
        if not self.is_absolute():  # above the bucket
            return None
        store, name = store_name(self)
        try:
            return store.stat(name) if name else None
        except FileNotFoundError:
            return None

    def _children(self) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files right below."""
        if not self.is_absolute():
            return [], []
        store, name = store_name(self)
        return _LISTINGS.children(str(self), lambda: store.children(name))

    def entry(self) -> Entry:
        """Size, time and content's name of the object."""
        found = self._entry()
        if found is None:
            raise FileNotFoundError(2, "there is no such object", str(self))
        return found

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and time of an object, and regular for its mode; a folder has neither."""
        found = self._entry()
        if found is None:
            if self.is_dir():
                return os.stat_result((0o040755, 0, 0, 1, 0, 0, 0, 0, 0, 0), {"st_mtime_ns": 0})
            raise FileNotFoundError(2, "there is no such object", str(self))
        seconds = found.stamp_ns // 10**9
        return os.stat_result(
            (0o100644, 0, 0, 1, 0, 0, found.size, seconds, seconds, seconds),
            {"st_mtime_ns": found.stamp_ns, "st_mtime": found.stamp_ns / 1e9},
        )

    def lstat(self) -> os.stat_result:
        """As ``stat``."""
        return self.stat()

    def exists(self, **_: Any) -> bool:
        """Whether there is an object of this name, or one below it."""
        return self.is_file() or self.is_dir()

    def is_file(self, **_: Any) -> bool:
        """Whether there is an object of this name."""
        return self._entry() is not None

    def is_dir(self, **_: Any) -> bool:
        """Whether there is an object below this name."""
        known = _LISTINGS.is_folder(str(self))
        return any(self._children()) if known is None else known

    def iterdir(self) -> Iterator["StorePath"]:  # type: ignore[override]
        """What lies right below, folders first."""
        folders, files = self._children()
        yield from (self / name for name in [*folders, *files])

    def tree(self) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files right below."""
        return self._children()

    def files_below(self) -> Iterator["StorePath"]:
        """Every object below, whatever its depth."""
        store, name = store_name(self)
        for within in _LISTINGS.below(str(self), name, lambda: store.entries(name)):
            yield self / within

    def glob(self, pattern: str, **_: Any) -> Iterator["StorePath"]:  # type: ignore[override]
        """As ``Path.glob``, without ``**``."""
        wanted = pattern.split("/")
        if len(wanted) == 1:
            yield from (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))
            return
        seen = set()
        for path in self.files_below():
            parts = path.parts[len(self.parts) :][: len(wanted)]
            if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)) and parts not in seen:
                seen.add(parts)
                yield self.joinpath(*parts)

    def rglob(self, pattern: str, **_: Any) -> Iterator["StorePath"]:  # type: ignore[override]
        """The objects below whose name matches."""
        yield from (path for path in self.files_below() if fnmatch.fnmatchcase(path.name, pattern))

    def read_bytes(self) -> bytes:
        """The whole object."""
        store, name = store_name(self)
        found = _LISTINGS.known(str(self))
        return store.read(name, 0, found.size) if found is not None and found.size else store.read(name)

    def read_range(self, start: int, stop: int) -> bytes:
        """The bytes of an object from ``start`` up to ``stop``, which must lie within it."""
        if stop <= start:
            return b""
        store, name = store_name(self)
        return store.read(name, start, stop)

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """The whole object as text, UTF-8 by default."""
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding or "utf-8", errors, newline).read()

    def open(self, mode: str = "r", *_: Any, **named: Any) -> Any:
        """An object to read by ranges (``rb``), or its text.

        Raises:
            StoreFailed: for writing; ``schemas.files.written_whole`` does that.
        """
        if mode == "rb":
            return StoreFile(self.entry().size, self.read_range)
        if mode in ("r", "rt"):
            return io.StringIO(self.read_text(named.get("encoding"), named.get("errors")))
        raise StoreFailed(f"{self} cannot be opened to be changed: an object of a store is written as a whole")

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        store, name = store_name(self)
        store.delete([name])

    def remove_below(self) -> None:
        """Remove every object below."""
        store, _ = store_name(self)
        store.delete([store_name(path)[1] for path in self.files_below()])

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a store has no empty folders."""

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Refuse, as ``open``."""
        self.open("w")

    def put(self, data: bytes | Path) -> None:
        """Write the object by one request; a ``Path`` is a file of this machine."""
        store, name = store_name(self)
        store.put(name, data)

    def put_if_absent(self, data: bytes) -> bool:
        """Write the object unless one stands there; whether it was written."""
        store, name = store_name(self)
        return store.put_if_absent(name, data)
