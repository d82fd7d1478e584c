"""Detects cuts in a video: the whole picture changes from one frame to the next, with little change before and after.

Frames are compared as small grey pictures normalised to mean 0 and length 1, so lighting and exposure have no effect. A
fast camera motion gives large changes over many frames, and a flash gives two; a cut is a single large change.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.episodes.spill import in_turn
from schemas.episode import BadEpisode

SIDE = 32
"""Px, sides of the small pictures."""
ALONE = 3.0
"""Smallest ratio of the change at a cut to that of the frames beside it."""
BESIDE = 2
"""Number of frames on each side that are compared."""


def check_level(name: str, level: float | None) -> None:
    """Refuse a level at which everything or nothing is a cut; the message names the part.

    Raises:
        ValueError: it is not between 0 and 2.
    """
    if level is not None and not 0 < level < 2:
        raise ValueError(f"{name}.cut_level must lie between 0 and 2, or be none not to look for cuts, found {level:g}")


def check_cuts(
    name: str, frames: UInt8[np.ndarray, "T H W 3"] | Sequence[UInt8[np.ndarray, "H W 3"]], level: float
) -> None:
    """Refuse a clip that contains a cut.

    Args:
        name: of its camera, for messages.
        frames: RGB.
        level: change between neighbouring frames, 0 (the same) to 2 (the negative), from which it may be a cut.

    Raises:
        BadEpisode: ``scene_cut``, with the frame.
    """
    change = changes(frames)
    for frame in cuts(change, level):
        raise BadEpisode(
            "scene_cut",
            f"camera {name}: frame {frame + 1} shows another picture than frame {frame} (change "
            f"{change[frame]:.2f}, cut_level="
            f"{level:g}); an episode must be filmed in one go",
        )


def cuts(change: Float[np.ndarray, " N"], level: float) -> list[int]:
    """The frames after which there is a cut.

    Args:
        change: see ``changes``.
        level: see ``check_cuts``.
    """
    found = []
    for frame in np.flatnonzero(change > level):
        beside = np.concatenate([change[max(frame - BESIDE, 0) : frame], change[frame + 1 : frame + 1 + BESIDE]])
        if len(beside) >= BESIDE and change[frame] > ALONE * beside.max():
            found.append(int(frame))
    return found


def changes(frames: UInt8[np.ndarray, "T H W 3"] | Sequence[UInt8[np.ndarray, "H W 3"]]) -> Float[np.ndarray, " N"]:
    """One minus the correlation of each pair of neighbouring frames; N = T - 1. A uniform frame equals any other."""
    small = [_small(frame) for frame in in_turn(frames)]
    return np.array([1.0 - float(one @ other) if one.any() and other.any() else 0.0 for one, other in pairwise(small)])


def _small(frame: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, " P"]:
    import cv2

    tiny = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(tiny, cv2.COLOR_RGB2GRAY).astype(np.float64).ravel()
    grey -= grey.mean()
    length = np.linalg.norm(grey)
    return grey / length if length > SIDE else np.zeros_like(grey)  # less than one grey level per pixel is noise
