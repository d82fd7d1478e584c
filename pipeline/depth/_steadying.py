"""Estimates of one frame at a time flicker: scale and shift differ a little from frame to frame, and still things seem to move.

Where the camera stands still most of the picture is the same in every frame, so each frame is brought to the clip's median by the
line with which most of its pixels agree; what moves does not agree and has no say.
"""

import numpy as np
from jaxtyping import Float

from pipeline.depth_alignment import fit_line

MEDIAN_FRAMES = 31
PIXELS = 1024
"""Of each frame, on a regular grid, by which its line is found."""
TOLERANCE = 0.05
"""Standard deviations of the median frame within which a pixel counts as still."""
AGREEING = 0.3
"""Share of the pixels that must agree, or the frame is left as it is."""


def steady(inverse: Float[np.ndarray, "T H W"], shifted: bool) -> Float[np.ndarray, "T H W"]:
    """Inverse depth of a camera that stands still, each frame scaled (and shifted) to the median over the clip, in its place."""
    length, height, width = inverse.shape
    frames = np.unique(np.linspace(0, length - 1, min(length, MEDIAN_FRAMES)).round().astype(int))
    step = max(int(np.sqrt(height * width / PIXELS)), 1)
    grid = (slice(step // 2, None, step), slice(step // 2, None, step))
    middle = np.median(inverse[(slice(None), *grid)][frames], axis=0).astype(np.float64)
    known = np.isfinite(middle)
    tolerance = np.full(middle.shape, TOLERANCE * middle[known].std() if known.any() else 0)
    for frame in inverse:
        sample = frame[grid].astype(np.float64)
        usable = known & np.isfinite(sample) & (tolerance > 0)
        if usable.sum() < 3:
            continue
        line = fit_line(sample[usable], middle[usable], tolerance[usable], shifted)
        if line is not None and line.agreeing >= AGREEING:
            frame *= np.float32(line.scale)
            frame += np.float32(line.shift)
    return inverse
