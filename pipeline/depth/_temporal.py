"""Removes flicker from depth that was estimated frame by frame, for a static camera.

With a static camera most of the picture is the same in every frame, but scale and shift differ a little from frame to
frame. Each frame is aligned to the clip's median by a robustly fitted line; moving things are outliers of the fit. The
noise that stays is measured and taken out later, as that of any depth (``pipeline.vision.depth_steadying``).
"""

import numpy as np
from jaxtyping import Float

from pipeline.depth._metric_alignment import fit_line
from pipeline.episodes.spill import in_turn

MEDIAN_FRAMES = 31
PIXELS = 1024
"""Number of pixels per frame, on a regular grid, to which the line is fitted."""
TOLERANCE = 0.05
"""Largest distance of an inlier from the line, in standard deviations of the median frame."""
AGREEING = 0.3
"""Share of the pixels that must be inliers; otherwise the frame is not changed."""


def steady(inverse: Float[np.ndarray, "T H W"], shifted: bool) -> None:
    """Remove flicker from the inverse depth of a static camera, in place.

    Args:
        inverse: estimates; NaN where unknown.
        shifted: whether frames may also differ by a shift, not only by the scale.
    """
    whole = np.flatnonzero([np.isfinite(frame).all() for frame in in_turn(inverse)])
    if len(whole) == 0:
        return
    places = np.linspace(0, len(whole) - 1, min(len(whole), MEDIAN_FRAMES)).round().astype(int)
    chosen = whole[np.unique(places)].tolist()
    _level(inverse, chosen, shifted)


def _level(inverse: Float[np.ndarray, "T H W"], chosen: list[int], shifted: bool) -> None:
    """Align each frame to the median of the chosen frames by one scale and shift."""
    _, height, width = inverse.shape
    step = max(int(np.sqrt(height * width / PIXELS)), 1)
    grid = (slice(step // 2, None, step), slice(step // 2, None, step))
    middle = np.median(inverse[(slice(None), *grid)][chosen], axis=0).astype(np.float64)
    tolerance = np.full(middle.shape, TOLERANCE * middle.std())
    if not tolerance.any():
        return
    for frame in in_turn(inverse):
        sample = frame[grid].astype(np.float64)
        usable = np.isfinite(sample)
        if usable.sum() < 3:
            continue
        line = fit_line(sample[usable], middle[usable], tolerance[usable], shifted)
        if line is not None and line.agreeing >= AGREEING:
            frame *= np.float32(line.scale)
            frame += np.float32(line.shift)
