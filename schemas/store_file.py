"""An object of a store as an open file, for libraries that read parts of one."""

import io
import os
from collections.abc import Callable
from typing import Any

from schemas.errors import StoreFailed


class StoreFile(io.RawIOBase):
    """An object that is read by ranges, some at a time, and can be sought in.

    Attributes:
        failure: the ``StoreFailed`` of a read, which a library may have turned into an error of its own.
    """

    BLOCK = 1 << 16

    def __init__(self, size: int, read_range: Callable[[int, int], bytes]):
        """A file of this size, of which ``read_range(start, stop)`` gives bytes."""
        super().__init__()
        self.size, self.position, self._read_range = size, 0, read_range
        self.failure: StoreFailed | None = None
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position."""
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def readinto(self, buffer: Any) -> int:
        """Read up to the buffer's length from the position on."""
        view = memoryview(buffer).cast("B")
        stop = min(self.position + len(view), self.size)
        if stop <= self.position:
            return 0
        data = self._range(self.position, stop)
        view[: len(data)] = data
        self.position += len(data)
        return len(data)

    def _range(self, start: int, stop: int) -> bytes:
        first, last = start // self.BLOCK, (stop - 1) // self.BLOCK
        try:
            if last - first >= 4:
                return self._read_range(start, stop)
            for number in range(first, last + 1):
                if number not in self._blocks:
                    at = number * self.BLOCK
                    self._blocks[number] = self._read_range(at, min(at + self.BLOCK, self.size))
        except StoreFailed as error:
            self.failure = error
            raise
        data = b"".join(self._blocks[number] for number in range(first, last + 1))
        return data[start - first * self.BLOCK : stop - first * self.BLOCK]
