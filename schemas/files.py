"""Atomic writing of files and of objects in stores, and digests to verify their contents."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from schemas.locations import StorePath

PIECE = 16 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Write errors whose message does not name the file."""


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that appears under ``path`` only when the block ends without an error.

    It is a temporary file in the same folder, synced to disk and renamed. On any error it is removed and what stood
    under ``path`` before is unchanged. For a store it is a file in the system's folder for temporary files, which is
    then sent, and the object appears by one request.

    Raises:
        OSError: the disk is full, read-only or failing; the message names the file.
        StoreFailed: the store does not take it.
    """
    if isinstance(path, StorePath):
        with _sent_whole(path) as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the first error is the one to report
            aside.unlink(missing_ok=True)
        name_file(error, path)
        raise


@contextlib.contextmanager
def _sent_whole(path: StorePath) -> Iterator[BinaryIO]:
    with tempfile.NamedTemporaryFile(prefix="lamp-", suffix=path.suffix) as file:
        try:
            yield file  # type: ignore[misc]
            file.flush()
        except BaseException as error:
            name_file(error, Path(file.name))
            raise
        path.put(Path(file.name))


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that it is whole or absent; see ``written_whole``."""
    if isinstance(path, StorePath):
        path.put(data)
        return
    with written_whole(path) as file:
        file.write(data)


def name_file(error: BaseException, path: Path) -> None:
    """Add the name of the file to a write error; the system's own message for a full disk lacks it."""
    if isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None:
        error.filename = str(path)


def remove(path: Path) -> None:
    """Delete a file, or a folder such that it is never seen partly deleted under its name (in a store: object by
    object)."""
    if isinstance(path, StorePath):
        if path.is_file():
            path.unlink()
        path.remove_below()
    elif path.is_dir() and not path.is_symlink():
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        os.replace(path, aside)
        shutil.rmtree(aside)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(output: Path) -> Iterator[Path]:
    """A folder to write to that appears as ``output`` only when the block ends without an error.

    It is made at once, so that a place that cannot be written fails before long work.

    Args:
        output: of this machine; it must not exist.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_name(f".{output.name}.{secrets.token_hex(4)}.partial")
    aside.mkdir()
    try:
        yield aside
        aside.rename(output)
        sync_folder(output.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that renames in it are durable; objects of a store are durable when they appear."""
    if isinstance(folder, StorePath):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partials(folder: Path) -> None:
    """Delete temporary files that killed writers left in a folder; a store has none."""
    if isinstance(folder, StorePath):
        return
    for aside in folder.glob(".*.partial"):
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink(missing_ok=True)


def canonical_json(value: Any) -> bytes:
    """JSON with the same bytes for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def digest_of(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file or object."""
    if isinstance(path, StorePath):
        return _sha256_of_object(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_object(path: StorePath) -> str:
    digest = hashlib.sha256()
    for piece in pieces_of(path):
        digest.update(piece)
    return digest.hexdigest()


def pieces_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file or object, some megabytes at a time."""
    if isinstance(path, StorePath):
        size = path.entry().size
        for start in range(0, size, PIECE):
            yield path.read_range(start, min(start + PIECE, size))
        return
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            yield piece


def contents_digest(path: Path) -> str:
    """SHA-256 of what a file holds, or of the names and contents of all files below a folder that are not hidden.

    Raises:
        OSError: something cannot be read.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
    return digest_of([["" if p == path else p.relative_to(path).as_posix(), _file_digest(p)] for p in files])


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)


def _file_digest(path: Path) -> str:
    stat = path.stat()
    return _remembered_digest(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _remembered_digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file of this size and time, cached, as weights are gigabytes and needed repeatedly."""
    return sha256_of(path)


def inside(folder: Path, name: str) -> Path:
    """The path of a name that must lie in a folder.

    Raises:
        ValueError: the name is absolute or leads out of the folder.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or os.path.isabs(name):
        raise ValueError(f"{name!r} leads out of {folder}")
    return path
