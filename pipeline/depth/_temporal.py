"""Removes flicker from depth that was estimated frame by frame, for a static camera.

With a static camera most of the picture is the same in every frame. That allows two corrections:

* Scale and shift differ a little from frame to frame. Each frame is aligned to the clip's median by a robustly fitted
  line; moving things are outliers of the fit.
* Where the picture does not change, the depth does not change. If the estimate there differs from the median by no more
  than the usual noise of such places, it is replaced by the median's depth.
"""

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.depth._metric_alignment import fit_line
from pipeline.episodes.spill import in_turn

MEDIAN_FRAMES = 31
PIXELS = 1024
"""Number of pixels per frame, on a regular grid, to which the line is fitted."""
TOLERANCE = 0.05
"""Largest distance of an inlier from the line, in standard deviations of the median frame."""
AGREEING = 0.3
"""Share of the pixels that must be inliers; otherwise the frame is not changed."""
SAME = 5.0
"""Mean grey difference (0..255) over a patch up to which a place looks the same as in the median frame."""
PATCH = 7
"""Pixels along the patch's side."""
NOISE = 6.0
"""Standard deviations of the still places' estimates within which one counts as noise."""


def steady(
    inverse: Float[np.ndarray, "T H W"], grey: UInt8[np.ndarray, "T H W"], shifted: bool
) -> Float[np.ndarray, "T H W"]:
    """Remove flicker from the inverse depth of a static camera, in place.

    Args:
        inverse: estimates; NaN where unknown.
        grey: the pictures.
        shifted: whether frames may also differ by a shift, not only by the scale.
    """
    whole = np.flatnonzero([np.isfinite(frame).all() for frame in in_turn(inverse)])
    if len(whole) == 0:
        return inverse
    places = np.linspace(0, len(whole) - 1, min(len(whole), MEDIAN_FRAMES)).round().astype(int)
    chosen = whole[np.unique(places)].tolist()
    level(inverse, chosen, shifted)
    hold_still(inverse, grey, chosen)
    return inverse


def level(inverse: Float[np.ndarray, "T H W"], chosen: list[int], shifted: bool) -> None:
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


def hold_still(inverse: Float[np.ndarray, "T H W"], grey: UInt8[np.ndarray, "T H W"], chosen: list[int]) -> None:
    """Where a frame looks like the median of the chosen frames, use the median's depth if the difference is noise."""
    import cv2

    usual = np.median(grey[chosen], axis=0).astype(np.uint8)
    middle = np.median(inverse[chosen], axis=0)

    def looks_same(number: int) -> np.ndarray:
        return cv2.blur(cv2.absdiff(np.asarray(grey[number]), usual).astype(np.float32), (PATCH, PATCH)) <= SAME

    off = np.concatenate([np.abs(inverse[n] - middle)[looks_same(n)] for n in chosen])
    if len(off) == 0:
        return
    limit = (
        NOISE * 1.4826 * float(np.median(off))
    )  # for normal noise, the median absolute deviation is 1 / 1.4826 standard deviations
    for number, frame in enumerate(in_turn(inverse)):
        still = looks_same(number) & (np.abs(frame - middle) <= limit)
        frame[still] = middle[still]
