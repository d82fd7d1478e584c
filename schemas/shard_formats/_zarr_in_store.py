"""A zarr shard in a store, as zarr reads it: by ranges, through ``schemas.locations``, which knows the credentials and
tries again.

Descriptions of arrays, and the tables at the end of each that say where its chunks are, are asked for once and kept:
some tens of KB a shard. Chunks are asked for when a sample is read.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from schemas.locations import StorePath


class ZarrInStore(Store):
    """The objects below a URL, to be read only.

    Raises (every method that asks the store):
        StoreFailed: it did not answer, or refused.
    """

    def __init__(self, folder: StorePath):
        super().__init__(read_only=True)
        self._folder = folder
        self._kept: dict[tuple[str, int], bytes] = {}
        self._sizes: dict[str, int] = {}

    @property
    def supports_writes(self) -> bool:
        """No."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """No."""
        return False

    @property
    def supports_listing(self) -> bool:
        """No: the names in a shard are known."""
        return False

    def __eq__(self, value: object) -> bool:
        return isinstance(value, ZarrInStore) and value._folder == self._folder

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """An object's bytes, or some of them; None if there is no such object."""
        try:
            data = await asyncio.to_thread(self._read, key, byte_range)
        except FileNotFoundError:
            return None
        return prototype.buffer.from_bytes(data)

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes:
        path = self._folder / key
        if isinstance(byte_range, RangeByteRequest):
            return path.read_range(byte_range.start, byte_range.end)
        if byte_range is None:
            return self._once((key, 0), path.read_bytes)
        size = self._size(key, path)
        if isinstance(byte_range, OffsetByteRequest):
            return path.read_range(byte_range.offset, size)
        start = max(0, size - byte_range.suffix)
        return self._once((key, size - start), lambda: path.read_range(start, size))

    def _once(self, name: tuple[str, int], read: Any) -> bytes:
        if name not in self._kept:
            self._kept[name] = read()
        return self._kept[name]

    def _size(self, key: str, path: StorePath) -> int:
        if key not in self._sizes:
            self._sizes[key] = path.entry().size
        return self._sizes[key]

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several of them."""
        return list(await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is an object of this name."""
        return await asyncio.to_thread((self._folder / key).is_file)

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: shards are written whole (``schemas.shard_formats.zarr.write_shard``)."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse."""
        self._check_writable()

    async def _nothing(self) -> AsyncIterator[str]:
        raise NotImplementedError("a shard in a store is not listed")
        yield ""

    def list(self) -> AsyncIterator[str]:
        """Not supported."""
        return self._nothing()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Not supported."""
        return self._nothing()

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Not supported."""
        return self._nothing()
