"""Arrays of all frames of an episode: in memory, or in a temporary file where the episode is too long for that
(``pipeline.episodes.chunks``).
"""

import mmap
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int

AT_A_TIME = 64
"""Frames of a long episode that are held in memory at a time."""


def empty(shape: tuple[int, ...], kind: type, long: bool) -> np.ndarray:
    """An array to be filled; of a long episode in a temporary file, which is gone when the array is."""
    if not long:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, kind, "w+", shape=shape)


def release(array: np.ndarray) -> None:
    """Give back the memory that a file's array has taken by being read or written; what is in the file stays."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def in_turn(frames: np.ndarray | Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames one after the other; of a file's array no more than some stay in memory."""
    for number, frame in enumerate(frames):
        yield frame
        if number % AT_A_TIME == AT_A_TIME - 1 and isinstance(frames, np.ndarray):
            release(frames)


def blocks(length: int) -> Iterator[Int[np.ndarray, " N"]]:
    """The numbers of all frames, in rising order, some at a time."""
    for start in range(0, length, AT_A_TIME):
        yield np.arange(start, min(start + AT_A_TIME, length))


def gathered(length: int, some: Callable[[Int[np.ndarray, " N"]], np.ndarray]) -> np.ndarray:
    """What ``some`` gives of all frames of a long episode, asked for some at a time."""
    array = None
    for numbers in blocks(length):
        found = some(numbers)
        if array is None:
            array = empty((length, *found.shape[1:]), found.dtype.type, long=True)
        array[numbers] = found
        release(array)
    assert array is not None, "an episode has frames"
    return array
