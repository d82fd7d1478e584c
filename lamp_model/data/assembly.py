"""A batch in the making: arrays into whose rows samples are written, by several threads at once.

Writing each picture and each increment straight to its place saves copying the batch once more, and fresh memory for
every sample.
"""

import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lamp_model.data.batch import Batch, Scene
from lamp_model.errors import BadSample

IMAGE = "image/"
"""Before a role: the name of its array."""


@dataclass(frozen=True)
class Row:
    """What a sample adds to a batch besides its arrays.

    Attributes:
        cameras: roles of its images, in order.
    """

    cameras: tuple[str, ...]
    instruction: str
    scene: Scene


class Memory:
    """Memory for arrays that is used again once nothing refers to them: fresh memory costs a tenth of the decoding.

    Every view of an array and every tensor on it refers to the memory, so the count of references tells exactly
    whether a batch is still in use.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An array of any content, as ``np.empty`` makes it."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with self._lock:
            for place in range(len(self._blocks)):
                # Two references: from the list, and the argument itself.
                if self._blocks[place].nbytes == size and sys.getrefcount(self._blocks[place]) == 2:
                    return self._blocks[place].view(dtype).reshape(shape)
            self._blocks.append(np.empty(size, np.uint8))
            return self._blocks[-1].view(dtype).reshape(shape)


class BatchArrays:
    """The arrays of a batch by name. An array is made when its first row is asked for, and has that row's shape.

    Args:
        memory: where they are made.
    """

    def __init__(self, size: int, memory: Memory | None = None):
        self.size, self._memory = size, memory or Memory()
        self._arrays: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def row(self, name: str, place: int, shape: tuple[int, ...], dtype: type, key: str) -> np.ndarray:
        """The memory of one sample in an array; the caller writes all of it.

        Args:
            place: of the sample in the batch.
            key: of the sample, for the message.

        Raises:
            BadSample: the other samples of the batch have another shape.
        """
        with self._lock:
            array = self._arrays.get(name)
            if array is None:
                array = self._arrays[name] = self._memory.empty((self.size, *shape), dtype)
        if array.shape[1:] != shape:
            raise BadSample(
                f"samples of different sizes cannot be trained together: {name} of sample {key} is {shape}, of others "
                f"{array.shape[1:]}"
            )
        return array[place, ...]

    def batch(self, rows: Sequence[Row]) -> Batch:
        """The finished batch of all rows, in order; its tensors share the memory of the arrays."""
        tensors = {name: torch.from_numpy(array) for name, array in self._arrays.items()}
        images = tuple(tensors.pop(IMAGE + role) for role in rows[0].cameras)
        return Batch(
            images=images,
            instructions=tuple(row.instruction for row in rows),
            scenes=tuple(row.scene for row in rows),
            **tensors,
        )
