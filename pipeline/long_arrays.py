"""Arrays of all frames of an episode: in memory, or in a temporary file where the episode is too long for that (``pipeline.pieces``)."""

import tempfile
from collections.abc import Iterator

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


def blocks(length: int) -> Iterator[Int[np.ndarray, "N"]]:
    """The numbers of all frames, in rising order, some at a time."""
    for start in range(0, length, AT_A_TIME):
        yield np.arange(start, min(start + AT_A_TIME, length))
