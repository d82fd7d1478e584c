"""Arrays of all frames of an episode: in memory, or in a temporary file where the episode is too long for that
(``pipeline.episodes.chunks``).
"""

import mmap
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int

AT_A_TIME = 64
"""Frames of a long episode that are kept in memory at a time."""


def empty(shape: tuple[int, ...], kind: type, long: bool) -> np.ndarray:
    """An array to be filled; for a long episode in a temporary file, which is deleted with the array."""
    if not long:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, kind, "w+", shape=shape)


def release(array: np.ndarray) -> None:
    """Release the memory used by reading or writing a file's array; the file keeps its contents."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def in_turn(frames: np.ndarray | Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Iterate over the frames; of a file's array only a few stay in memory."""
    for number, frame in enumerate(frames):
        yield frame
        if number % AT_A_TIME == AT_A_TIME - 1 and isinstance(frames, np.ndarray):
            release(frames)


def blocks(length: int) -> Iterator[Int[np.ndarray, " N"]]:
    """The numbers of all frames, in ascending order, in blocks."""
    for start in range(0, length, AT_A_TIME):
        yield np.arange(start, min(start + AT_A_TIME, length))


def gathered(length: int, some: Callable[[Int[np.ndarray, " N"]], np.ndarray]) -> np.ndarray:
    """The result of ``some`` for all frames of a long episode, computed in blocks."""
    array = None
    for numbers in blocks(length):
        found = some(numbers)
        if array is None:
            array = empty((length, *found.shape[1:]), found.dtype.type, long=True)
        array[numbers] = found
        release(array)
    assert array is not None, "an episode has frames"
    return array
