"""Object stores by URL: ``s3://``, ``gs://``, ``az://``, ``https://`` and ``hf://datasets/OWNER/NAME``.

``schemas.locations`` turns a URL into a path that uses these. The libraries are imported where a store is opened:
obstore (extra ``stores``) for object stores and web servers, huggingface_hub (extra ``train``) for the hub.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

SCHEMES = {
    "s3": "schemas.stores.objects",
    "gs": "schemas.stores.objects",
    "az": "schemas.stores.objects",
    "http": "schemas.stores.web",
    "https": "schemas.stores.web",
    "hf": "schemas.stores.hub",
}
"""The module that opens the URLs of each scheme, with its function ``open_store(scheme, root)``."""


@dataclass(frozen=True)
class Entry:
    """One object of a store.

    Attributes:
        name: within the store, with ``/`` between its folders.
        size: bytes.
        modified_ns: when it was written, in nanoseconds as by ``os.stat``, to the second.
        etag: what the store calls this content, if anything.
    """

    name: str
    size: int
    modified_ns: int
    etag: str = ""

    @property
    def stamp_ns(self) -> int:
        """A modification time that differs also between contents written within one second."""
        return self.modified_ns - self.modified_ns % 10**9 + zlib.crc32(self.etag.encode()) % 10**9


@runtime_checkable
class Store(Protocol):
    """Objects by name. Every method may raise ``StoreFailed`` after several tries, and ``PermissionError``."""

    def stat(self, name: str) -> Entry:
        """An object's size and time.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def entries(self, prefix: str) -> Iterator[Entry]:
        """Every object below a folder, whatever its depth; in the order of their names."""
        ...

    def children(self, prefix: str) -> tuple[list[str], list[Entry]]:
        """The folders (by their whole names) and the objects right below a folder."""
        ...

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """An object's bytes from ``start`` up to ``stop``, or to its end.

        Raises:
            FileNotFoundError: there is none.
        """
        ...

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, which appears whole or not at all; a ``Path`` is a file of this machine."""
        ...

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write an object unless one stands there; whether it was written."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects, those that exist."""
        ...


def store_of(url: str) -> tuple[Store, str]:
    """The store of a URL and the name within it.

    Args:
        url: ``scheme://rest``.

    Raises:
        MissingDependency: the package that opens it is not installed.
        ValueError: as ``split_url``.
    """
    scheme, root, name = split_url(url)
    return _opened(os.getpid(), scheme, root), name


def split_url(url: str) -> tuple[str, str, str]:
    """Scheme, bucket (host, or data set) and name within it.

    Raises:
        ValueError: there is no such scheme, or the URL names no bucket.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise ValueError(f"{url}: there is no store {scheme}://; known are {', '.join(f'{s}://' for s in SCHEMES)}")
    pieces = rest.strip("/").split("/")
    taken = 3 if scheme == "hf" else 1
    if len(pieces) < taken or not all(pieces[:taken]):
        raise ValueError(f"{url} names no {'OWNER/NAME' if scheme == 'hf' else 'bucket or host'}")
    if scheme == "hf" and pieces[0] != "datasets":
        raise ValueError(f"{url} is no data set of the hub: expected hf://datasets/OWNER/NAME")
    return scheme, "/".join(pieces[:taken]), "/".join(pieces[taken:])


@lru_cache(maxsize=16)
def _opened(process: int, scheme: str, root: str) -> Store:
    """One store a process: connections are not shared with forked processes."""
    import importlib

    return importlib.import_module(SCHEMES[scheme]).open_store(scheme, root)
