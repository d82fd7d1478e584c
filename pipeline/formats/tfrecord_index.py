"""Indexes of the records in a folder's TFRecord files, computed once and kept in the user's cache.

Indexing reads a few bytes before each record and seeks over the rest, which on a file server takes minutes for a
large dataset. An index is valid as long as the file's size and modification time do not change. Workers get each
record's position with its ref and need no index.
"""

import json
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.formats.tfrecord import RecordIndex, index_records
from schemas.file_cache import file_cache
from schemas.files import canonical_json, digest_of, write_whole
from schemas.locations import StorePath

VERSION = 1


def cache_folder() -> Path:
    """Where indexes are kept: ``$XDG_CACHE_HOME/lamp/record-indexes``, else below ``~/.cache``."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "lamp" / "record-indexes"


class RecordIndexes:
    """The indexes of one folder's files.

    Args:
        folder: of the TFRecord files.
    """

    def __init__(self, folder: Path):
        self._path = cache_folder() / f"{digest_of(str(folder.resolve()))[:32]}.json"
        self._known, self._changed = _read(self._path), False
        self._used: dict[str, Any] = {}

    def of(self, path: Path) -> RecordIndex:
        """A file's index.

        Raises:
            OSError: the file cannot be read.
        """
        stat = path.stat()
        entry = self._known.get(path.name)
        index = _index_of(entry, stat.st_size, stat.st_mtime_ns)
        if index is None:
            index = index_records(path)
            flat = [number for span in index.spans for number in span]
            entry = {"size": stat.st_size, "time": stat.st_mtime_ns, "spans": flat, "damage": index.damage}
            self._changed = True
        self._used[path.name] = entry
        return index

    def keep(self) -> None:
        """Write new indexes to the cache. If the cache cannot be written, the next listing computes them
        again.
        """
        if self._changed:
            with suppress(OSError):
                write_whole(self._path, canonical_json({"version": VERSION, "files": self._used}))


@lru_cache(maxsize=64)
def shared_index(path: StorePath) -> RecordIndex:
    """The index of one file in a store, made by the first process of this machine that needs it.

    Raises:
        OSError: the file is gone.
        StoreFailed: the store cannot be read.
    """
    entry = path.entry()

    def make(aside: Path) -> None:
        index = index_records(path)
        aside.write_bytes(canonical_json({"spans": index.spans, "damage": index.damage}))

    name = digest_of([VERSION, str(path), entry.size, entry.stamp_ns])[:32]
    held = file_cache().held(f"{name}.records.json", 0, make)
    try:
        values = json.loads(held.path.read_bytes())
    finally:
        held.close()
    return RecordIndex(tuple((int(offset), int(size)) for offset, size in values["spans"]), values["damage"])


def _read(path: Path) -> dict[str, Any]:
    """The cached indexes; empty if there are none or the file is broken."""
    try:
        kept = json.loads(path.read_bytes())
        return kept["files"] if kept["version"] == VERSION and isinstance(kept["files"], dict) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _index_of(entry: Any, size: int, time: int) -> RecordIndex | None:
    """The index in a cache entry, or None if the file has changed since."""
    try:
        if (entry["size"], entry["time"]) != (size, time):
            return None
        flat, damage = entry["spans"], entry["damage"]
        spans = tuple(zip(flat[::2], flat[1::2], strict=True))
        sound = all(type(o) is int and type(n) is int and 0 <= o <= o + n <= size for o, n in spans)
        return RecordIndex(spans, damage) if sound and (damage is None or isinstance(damage, str)) else None
    except (ValueError, LookupError, TypeError):
        return None
