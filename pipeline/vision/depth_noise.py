"""How noisy depth is, measured from the clip itself: places whose appearance does not change from one frame to the next
should not change their depth either.

Two kinds are told apart (``schemas.perception.DepthNoise``): noise of single pixels, and flicker, a factor on a whole
frame.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipeline.vision.lift import depth_edges
from pipeline.vision.reprojection import seen_from
from schemas.cameras import Cameras
from schemas.perception import DepthNoise

QUIET = 0.0005
"""Noise below this is a sensor's quantisation (1 mm at 1 m has a deviation of 0.0003) and is left alone."""
EXACT = 0.005
"""Share of depth by which depth without noise may differ from frame to frame, as by rounding on slopes."""
PAIRS = 12
"""Pairs of neighbouring frames that are compared, evenly spread over the episode."""
SAME = 2.0
"""Mean grey difference (0..255) over a patch up to which a place looks the same in the next frame."""
PATCH = 5
EDGE = 0.05
"""What counts as a depth discontinuity (``pipeline.vision.lift.depth_edges``)."""
FEWEST = 500
"""Pixels that a pair must have in common; else it tells nothing."""
TO_DEVIATION = 1.4826
"""For a bell curve, the standard deviation is so many median absolute deviations."""


def looked_at(length: int) -> Int[np.ndarray, " N"]:
    """The frames, ascending, that noise is measured in: both of each pair."""
    first = np.unique(np.linspace(0, max(length - 2, 0), PAIRS).round().astype(int))
    return np.unique(np.concatenate([first, np.minimum(first + 1, length - 1)]))


def measure(
    grey: UInt8[np.ndarray, "T H W"],
    depth: Float[np.ndarray, "T H W"],
    cameras: Cameras,
    frames: Int[np.ndarray, " T"],
) -> DepthNoise | None:
    """The noise of depth between neighbouring frames, by medians that moving things do not influence; None if it is no
    more than a sensor's quantisation.

    Args:
        grey: the pictures of some frames (``looked_at``).
        depth: theirs; NaN where unknown.
        cameras: theirs.
        frames: their numbers in the episode; those that follow each other are compared.
    """
    spreads, factors = [], []
    for second in np.flatnonzero(np.diff(frames) == 1) + 1:
        change = _changes(grey, depth, cameras, int(second) - 1, int(second))
        if change.size < FEWEST:
            continue
        middle = float(np.median(change))
        factors.append(abs(middle))
        spreads.append(float(np.median(np.abs(change - middle))))
    if not spreads:
        return None
    both = TO_DEVIATION / np.sqrt(2)  # the difference of two frames has the noise of both
    pixel, flicker = (both * float(np.median(found)) for found in (spreads, factors))
    return DepthNoise(pixel, flicker, max(pixel, flicker)) if max(pixel, flicker) > QUIET else None


def _changes(
    grey: UInt8[np.ndarray, "T H W"],
    depth: Float[np.ndarray, "T H W"],
    cameras: Cameras,
    first: int,
    second: int,
) -> Float[np.ndarray, " N"]:
    """Logarithm of the depth of a frame over what another says it is, where both look the same.

    With a moving camera, the other frame is seen from this frame's pose, by this frame's depth.
    """
    import cv2

    now, before = depth[second], depth[first]
    usable, factor = np.isfinite(now), np.float32(1)
    if not cameras.moving:
        other, picture = before, grey[first]
    else:
        there = seen_from(now, cameras, second, first)
        with np.errstate(divide="ignore"):
            inverse = np.where(_edges(before), np.float32(np.nan), np.float32(1) / before)
            other = np.float32(1) / there.drawn(inverse, outside=np.nan)
        picture = there.drawn(grey[first])
        factor = there.factor
        usable &= there.inside & ~_edges(now)
    unlike = cv2.blur(cv2.absdiff(grey[second], picture).astype(np.float32), (PATCH, PATCH))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.log(now * factor / other)[usable & (unlike <= SAME)]
    return ratio[np.isfinite(ratio)]


def _edges(depth: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Depth discontinuities that noise does not make: of the median over five pixels each way."""
    import cv2

    known = np.isfinite(depth)
    smooth = cv2.medianBlur(np.where(known, depth, np.float32(1e3)), 5)
    return depth_edges(smooth[None], EDGE)[0] | ~known
