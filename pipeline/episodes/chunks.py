"""Divides a long episode into chunks, so that a worker's memory does not grow with its length.

Each chunk includes the frames through which its reference frames are followed, so neighbours overlap by that reach. A
window depends on no other frame, so the samples do not depend on the chunk size. The scale of estimated depth and the
world frame and focal length of an estimated camera do depend on other frames. They are computed before, from all
frames, which are then kept in a temporary file with their depth (``pipeline.flow_sources.FlowSource.observe``). Checks
that only reject, for cuts and for a camera declared static, run chunk by chunk where nothing needs all frames.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.episodes.slicing import take_frames
from schemas.episode import Episode


@dataclass(frozen=True)
class ChunkConfig:
    """How much of an episode is worked on at a time. It bounds a worker's memory and decides no sample, so it belongs
    to no recipe.

    Attributes:
        megapixels: pixels, in millions, of one camera's frames; some 20 bytes of memory each.
    """

    megapixels: float = 32.0

    def __post_init__(self) -> None:
        if not 0 < self.megapixels < math.inf:
            raise ValueError(f"chunk_megapixels must be above 0, found {self.megapixels}")


DEFAULT_CHUNKS = ChunkConfig()


@dataclass(frozen=True)
class EpisodeChunk:
    """Frames ``first`` to ``stop`` - 1 of an episode.

    Attributes:
        references: reference frames, counted from ``first``.
    """

    first: int
    stop: int
    references: tuple[int, ...]

    def of(self, episode: Episode) -> Episode:
        """The chunk of an episode; the episode itself where the chunk is all of it."""
        if self.first == 0 and self.stop == episode.length:
            return episode
        return take_frames(episode, np.arange(self.first, self.stop))


def most_frames(megapixels: float, size: tuple[int, int], reach: int) -> int:
    """Number of frames per chunk; large enough that most of them are not processed twice.

    Args:
        size: (width, height) of a frame.
        reach: frames after a reference frame through which its keypoints are followed.
    """
    return max(int(megapixels * 1e6) // (size[0] * size[1]), 2 * (reach + 1))


def chunks_of(length: int, references: Sequence[int], reach: int, most: int) -> Iterator[EpisodeChunk]:
    """The chunks of an episode; one where it is no longer than ``most``.

    Args:
        references: in ascending order.
        reach: see ``most_frames``.
        most: maximum frames of a chunk.
    """
    if length <= most:
        yield EpisodeChunk(0, length, tuple(references))
        return
    start = 0
    while start < len(references):
        first = references[start]
        end = start + 1
        while end < len(references) and references[end] + reach + 1 - first <= most:
            end += 1
        stop = min(references[end - 1] + reach + 1, length)
        yield EpisodeChunk(first, stop, tuple(reference - first for reference in references[start:end]))
        start = end
