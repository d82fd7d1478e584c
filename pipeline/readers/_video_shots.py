"""Divides a video into shots: where the whole picture changes at once, another shot begins
(``pipeline.vision.scene_cuts``). Fades and wipes change slowly and are not found.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.formats.video_clips import ClipSpan, open_clip
from pipeline.vision.scene_cuts import changes, cuts

CUT_LEVEL = 0.3
"""As the flow sources' own check, so that what is split here is not refused there."""
SMALL = 64
"""Px, longest side of the pictures that are compared."""
BLOCK = 1024
"""Frames in memory at a time."""
LEAST = 2
"""Frames; a shorter shot is no clip, and is left out."""


def find_shots(name: str, path: Path, fps: float, frames: int) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of each shot, in order.

    Args:
        name: of the video, for messages.
        fps: rate at which its frames are counted.
        frames: its number of frames at that rate; fewer if it ends earlier.

    Raises:
        BadEpisode: it cannot be decoded, or has a gap.
    """
    change, last = [np.zeros(0)], None
    for first in range(0, frames, BLOCK):
        count = min(BLOCK, frames - first)
        if count < LEAST:
            break
        clip = open_clip(name, ClipSpan(path, fps, first, count, SMALL))
        small = clip.read(name)
        change.append(changes(small if last is None else np.concatenate([last, small])))
        last = small[-1:]
        if clip.length < count:
            break
    edges = [0, *(frame + 1 for frame in cuts(np.concatenate(change), CUT_LEVEL)), frames]
    return [(start, stop) for start, stop in pairwise(edges) if stop - start >= LEAST]
