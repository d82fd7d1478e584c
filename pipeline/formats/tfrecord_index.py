"""Where the records of a folder's TFRecord files lie, found once and kept in the user's cache.

Finding them reads a few bytes before each record and seeks over the rest, which on a file server takes minutes for a
large dataset. What was found is used as long as a file has the size and the time of change that it had. Workers get
each record's place with its ref and need no index.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.formats.tfrecord import RecordIndex, index_records
from schemas.files import canonical_json, digest_of, write_whole

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
        """Write what was found, unless nothing is new or the cache cannot be written: the next listing then finds it
        again.
        """
        if self._changed:
            with suppress(OSError):
                write_whole(self._path, canonical_json({"version": VERSION, "files": self._used}))


def _read(path: Path) -> dict[str, Any]:
    """What was kept; empty where nothing was, or it is broken."""
    try:
        kept = json.loads(path.read_bytes())
        return kept["files"] if kept["version"] == VERSION and isinstance(kept["files"], dict) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _index_of(entry: Any, size: int, time: int) -> RecordIndex | None:
    """The index that an entry holds, if it is of the file as it is now."""
    try:
        if (entry["size"], entry["time"]) != (size, time):
            return None
        flat, damage = entry["spans"], entry["damage"]
        spans = tuple(zip(flat[::2], flat[1::2], strict=True))
        sound = all(type(o) is int and type(n) is int and 0 <= o <= o + n <= size for o, n in spans)
        return RecordIndex(spans, damage) if sound and (damage is None or isinstance(damage, str)) else None
    except (ValueError, LookupError, TypeError):
        return None
