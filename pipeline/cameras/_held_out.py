"""Whether estimated poses explain the still scene, asked of points that had no part in the estimate.

Corners of a frame are drawn anew, finer than those of key frames. A later frame, seen from the first one's pose by the
first one's depth, should show them in the same places, whatever the camera did in between. Where they are found
elsewhere, or depth is another, either they move or the pose is wrong; as everywhere (``_corners``), the motion of most
of the visible area counts as the camera's.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from pipeline.cameras._clip import Clip
from pipeline.cameras._corners import area_weights
from pipeline.vision.lucas_kanade import Matching, match
from pipeline.vision.reprojection import seen_from
from schemas.cameras import Cameras

LAGS = (8, 32)
"""Frames between the two of a pair: a short time, and about a window."""
EVERY = 12
"""Frames from one pair's first frame to the next pair's."""
LOOKS = 8
"""Frames that are compared with the first."""
CELLS = 32
"""Rows and columns of cells, each with a corner if it has one: twice as many as key frames have."""
COVERED = 0.03
"""Share of depth by which something nearer covers a point."""
STANDS = 0.7
"""Share that a camera's first pose must explain in each of those frames for the camera to stand still."""
AWAY = 0.004
"""Share of the image's width (1 px of 256) by which a point may be off."""
FEWEST = 8
RIM = 9
"""Px; side of the square around a point that must be in view in both frames."""
HOW = Matching(window=11, levels=2)


@dataclass(frozen=True)
class Held:
    """What the points of one pair of frames say.

    Attributes:
        first, second: the frames.
        explained: share of the area found again that is where the poses say, at the depth that they say.
        points: that were found again.
    """

    first: int
    second: int
    explained: float
    points: int


def pairs_along(length: int) -> list[tuple[int, int]]:
    """Pairs of frames all along a clip, in order of their first frames for each of ``LAGS``."""
    lags = sorted({min(lag, length - 1) for lag in LAGS})
    return [(first, first + lag) for lag in lags for first in range(0, length - lag, EVERY)] if length > 1 else []


def pairs_from_start(length: int) -> list[tuple[int, int]]:
    """The first frame with a few others."""
    return [(0, int(frame)) for frame in np.unique(np.linspace(0, length - 1, LOOKS + 1).round())[1:]]


def stands_still(clip: Clip, cameras: Cameras, depth_noise: float) -> bool:
    """Whether the first frame's pose explains the whole clip: the simpler answer, where the background is so bare that
    things that move pass for it.
    """
    poses = np.tile(np.eye(4), (clip.length, 1, 1))
    pairs = pairs_from_start(clip.length)
    held = held_out(clip, replace(cameras, world_from_camera=poses), depth_noise, pairs)
    return len(held) == len(pairs) and all(pair.explained > STANDS for pair in held)


def held_out(clip: Clip, cameras: Cameras, depth_noise: float, pairs: list[tuple[int, int]]) -> list[Held]:
    """Test poses on pairs of frames; those with too few points in common are left out.

    Args:
        cameras: intrinsics and the poses to test.
        depth_noise: largest error of a point's depth, as a share.
    """
    found = []
    for first, second in pairs:
        explained, points = _explained(clip, cameras, first, second, depth_noise)
        if points >= FEWEST:
            found.append(Held(first, second, explained, points))
    return found


def _explained(clip: Clip, cameras: Cameras, first: int, second: int, depth_noise: float) -> tuple[float, int]:
    """Share of the area found again in the second frame that is as expected, and the number of its points."""
    import cv2

    depth = clip.depth(first)
    there = seen_from(depth, cameras, first, second)
    with np.errstate(invalid="ignore", divide="ignore"):
        beyond = there.drawn(clip.depth(second), nearest=True) / (depth * there.factor) - 1
        visible = there.inside & (beyond > -max(COVERED, depth_noise))
    usable = cv2.erode(visible.astype(np.uint8), np.ones((RIM, RIM), np.uint8)) > 0
    uvz = clip.corners(first, CELLS)
    column, row = np.floor(uvz[:, :2]).astype(int).T
    uvz, off = uvz[usable[row, column]], np.abs(beyond[row, column])[usable[row, column]]
    if len(uvz) < FEWEST:
        return 0.0, 0
    picture = there.drawn(clip.grey(second))
    moved, again = match(clip.grey(first), picture, uvz[:, :2], HOW)
    here = np.linalg.norm(moved - uvz[:, :2], axis=1) < AWAY * clip.size[0]
    weights: Float[np.ndarray, " N"] = area_weights(uvz[:, 2])
    right = again & here & (off < depth_noise)
    return float(weights[right].sum() / max(weights[again].sum(), 1e-12)), int(again.sum())
