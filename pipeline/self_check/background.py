"""Points that can be seen to stand still, from the pictures alone: no tracker is asked.

The patch around such a point looks the same at its place in nearly every frame of the window, and looks different at
every place a little farther away. Where all places look alike, on a plain table or along an edge, nothing can be said.
"""

from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipeline.cameras.static import Config as StaticConfig
from pipeline.cameras.static import check_stillness
from pipeline.vision.patches import patch_distance, patches
from schemas.episode import BadEpisode, CameraView
from schemas.perception import DepthMaps

ALIKE = 6.0
"""Mean grey difference (0..255) up to which two patches look the same."""
APART = 3
"""Px to the places around a point that must look different."""
MOSTLY = 0.9
"""Share of the frames in which the point must look the same; something may pass in front of it in the others."""
AROUND = [np.array(step) * APART for step in product((-1, 0, 1), repeat=2) if any(step)]


def stands_still(view: CameraView) -> bool:
    """Whether the camera stands still: as the static camera solver checks it, without depth.

    A bare picture in which nothing can be compared counts as still only if the dataset says so.
    """
    nothing_known = DepthMaps(np.ones((1, *view.frames.shape[1:3]), np.float32), "relative", "none")
    limit = StaticConfig().max_motion
    assert limit is not None
    try:
        return check_stillness(view, nothing_known, limit) or view.fixed
    except BadEpisode:
        return False


def background_points(
    grey: UInt8[np.ndarray, "T H W"], keypoints: Float[np.ndarray, "K 2"], frames: Int[np.ndarray, " S"]
) -> Bool[np.ndarray, " K"]:
    """Which keypoints can be seen to stand still through some frames of a still camera.

    Args:
        grey: the clip.
        keypoints: in px, on the first of the frames.
        frames: of the window, the reference frame first.
    """
    count, first = len(keypoints), np.full(len(keypoints), frames[0])
    looks = patches(grey, first, keypoints)
    told = np.ones(count, bool)
    for step in AROUND:
        told &= patch_distance(looks, patches(grey, first, keypoints + step)) > ALIKE
    rows = np.flatnonzero(told)
    steps = frames[1:]
    there = patches(grey, np.tile(steps, len(rows)), np.repeat(keypoints[rows], len(steps), axis=0))
    same = patch_distance(np.repeat(looks[rows], len(steps), axis=0), there) <= ALIKE
    told[rows] = same.reshape(len(rows), -1).mean(axis=1) >= MOSTLY
    return told
