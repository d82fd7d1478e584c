"""Tar shards of a build in a store, read for training: single samples by their byte ranges, and whole shards from a
cache on this machine once they are there.

The first sample needs one range of one shard and no more. Meanwhile the shards that are asked for are fetched in the
background, one after the other, into the cache (``schemas.file_cache``), which the processes of a machine share. The
shards that may be cached are the first ones that fit into its limit, so that shards of one build never push each other
out; the others are read by ranges throughout. Samples, their order and their checks are the same either way.
"""

import logging
import mmap
import queue
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from schemas.errors import StoreFailed
from schemas.file_cache import Held, download, file_cache
from schemas.files import sha256_of
from schemas.locations import StorePath
from schemas.parallel import in_parallel
from schemas.shard_formats import CorruptShard, Shard, ShardFile, open_shard
from schemas.shard_formats.webdataset import SUFFIX, TarShard, check_size, index_path, load_index

_LOG = logging.getLogger(__name__)
WINDOW_S = 60.0
"""Time over which waiting for the store is measured."""
LIMITED = 0.5
"""From this share of the reading threads' time on, spent waiting for the store, the network is said to be the limit."""
SILENT_S = 600.0
"""Time between two such messages."""


def open_stored(folder: StorePath, entries: Sequence[ShardFile]) -> list[Shard]:
    """The shards of a build in a store, with their indexes; no shard is fetched yet.

    Raises:
        CorruptShard: an index is missing or is not the one that was written.
        StoreFailed: the store cannot be read.
    """
    if not all(entry.name.endswith(SUFFIX) for entry in entries):
        return [open_shard(folder / entry.name) for entry in entries]
    fetcher = _Fetcher(folder, entries)
    indexes = in_parallel(partial(_index, folder), entries, folder)
    opened: list[Shard] = []
    for entry, index in zip(entries, indexes, strict=True):
        opened.append(StoredShard(folder / entry.name, entry, index, fetcher))
    return opened


def _index(folder: StorePath, entry: ShardFile) -> np.ndarray:
    """A shard's index, from the cache if an earlier run had it."""
    sidecar = folder / index_path(Path(entry.name)).name

    def fill(aside: Path) -> None:  # checked before it is kept: it lies under the name of the content that is wanted
        download(sidecar, size, aside)
        if load_index(sidecar, aside.read_bytes())[1] != entry.index_sha256:
            raise CorruptShard(f"{folder / entry.name}: its index is not the one that was written: its SHA-256 differs")

    try:
        size = sidecar.entry().size
    except FileNotFoundError as error:
        raise CorruptShard(f"{sidecar} is missing") from error
    held = file_cache().held(f"{entry.index_sha256[:32]}.npy", size, fill)
    try:
        index, found = load_index(held.path, held.path.read_bytes())
    finally:
        held.close()
    if found != entry.index_sha256:
        raise CorruptShard(f"{held.path}, the cached index of {folder / entry.name}, is damaged: remove that file")
    check_size(folder / entry.name, entry.bytes, index)
    return index


class StoredShard(TarShard):
    """A tar shard in a store; see the module."""

    def __init__(self, path: StorePath, entry: ShardFile, index: np.ndarray, fetcher: "_Fetcher"):
        self.path: Path = path
        self._object = path
        self.index, self.index_sha256 = index, entry.index_sha256
        self._entry, self._fetcher = entry, fetcher
        self._mapped: mmap.mmap | None = None
        self._held: Held | None = None
        self._fault: Exception | None = None
        self._lock = threading.Lock()

    def bytes_of(self, start: int, stop: int) -> bytes:
        """Bytes of the tar, from the cached file if it is there.

        Raises:
            CorruptShard: the shard is missing, or the fetched file is not the one that was written.
            StoreFailed: the store cannot be read.
        """
        if self._mapped is None:
            self._fetcher.want(self)
        if self._fault is not None:
            raise self._fault
        if self._mapped is not None:
            return self._mapped[start:stop]
        began = time.monotonic()
        try:
            return self._object.read_range(start, stop)
        except FileNotFoundError as error:
            raise CorruptShard(f"{self.path} is missing") from error
        finally:
            self._fetcher.waited(began, time.monotonic(), stop - start)

    def fetch(self) -> None:
        """Bring the shard into the cache, and read from there from now on."""
        entry = self._entry

        def fill(aside) -> None:
            download(self._object, entry.bytes, aside)
            if sha256_of(aside) != entry.sha256:
                raise CorruptShard(f"{self.path} is not the shard that was written: its SHA-256 differs")

        try:
            held = file_cache().held(f"{entry.sha256[:32]}{SUFFIX}", entry.bytes, fill)
        except CorruptShard as error:
            self._fault = error
            return
        with self._lock:
            if self._mapped is None and not self._fetcher.closed:
                with open(held.path, "rb") as file:
                    self._mapped, self._held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), held
                return
        held.close()

    def close(self) -> None:
        """Stop fetching, and let the cache remove the file when it needs room."""
        self._fetcher.close()
        with self._lock:
            if self._mapped is not None and self._held is not None:
                self._mapped.close()
                self._held.close()
            self._mapped = self._held = None


class _Fetcher:
    """Fetches the shards of one build into the cache, and watches how long its readers wait."""

    def __init__(self, folder: StorePath, entries: Sequence[ShardFile]):
        self.folder, self.closed = folder, False
        self._cacheable, total = set[str](), 0
        for entry in entries:
            total += entry.bytes
            if total > file_cache().limit:
                break
            self._cacheable.add(entry.name)
        self._wanted: queue.SimpleQueue[StoredShard | None] = queue.SimpleQueue()
        self._asked: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._watch = _Watch(str(folder))

    def want(self, shard: StoredShard) -> None:
        """Fetch a shard in the background, if it may be cached and was not asked for before."""
        name = shard.path.name
        if name not in self._cacheable or name in self._asked or self.closed:
            return
        with self._lock:
            if name in self._asked:
                return
            self._asked.add(name)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lamp-shard-cache", daemon=True)
                self._thread.start()
        self._wanted.put(shard)

    def _run(self) -> None:
        while (shard := self._wanted.get()) is not None and not self.closed:
            try:
                shard.fetch()
            except StoreFailed as error:  # its samples are read by ranges, which report it if they fail too
                _LOG.warning("%s is not cached: %s", shard.path, error)

    def waited(self, began: float, ended: float, size: int) -> None:
        """Count a read from the store."""
        self._watch.add(began, ended, size)

    def close(self) -> None:
        """Stop."""
        self.closed = True
        self._wanted.put(None)


class _Watch:
    """Tells when the network is the limit: the threads that read wait for the store most of the time. Where training is
    the limit, they wait for room in the loader's queue instead."""

    def __init__(self, where: str):
        self._where, self._lock = where, threading.Lock()
        self._began = self._said = None
        self._threads: set[int] = set()
        self._seconds, self._bytes, self._reads = 0.0, 0, 0

    def add(self, began: float, ended: float, size: int) -> None:
        """Count a read; times in seconds."""
        with self._lock:
            self._began = began if self._began is None else self._began
            self._threads.add(threading.get_ident())
            self._seconds += ended - began
            self._bytes, self._reads = self._bytes + size, self._reads + 1
            passed = ended - self._began
            if passed < WINDOW_S:
                return
            share = self._seconds / (passed * len(self._threads))
            if share > LIMITED and (self._said is None or ended - self._said > SILENT_S):
                self._said = ended
                _LOG.warning(
                    "the network is the limit: the %d threads that read from %s waited for it %.0f%% of the last %.0f "
                    "seconds (%.1f MB/s, %.0f ms a sample); more --threads, a larger --cache or a copy on this machine "
                    "(lamp-data copy) would help",
                    len(self._threads),
                    self._where,
                    100 * share,
                    passed,
                    self._bytes / passed / 1e6,
                    1000 * self._seconds / self._reads,
                )
            self._began, self._threads = ended, set()
            self._seconds, self._bytes, self._reads = 0.0, 0, 0
