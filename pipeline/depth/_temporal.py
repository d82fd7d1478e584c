"""Removes flicker from depth that was estimated frame by frame, for a static camera.

With a static camera most of the picture is the same in every frame, but scale and shift differ a little from frame to
frame. Each frame is aligned to the clip's median by a robustly fitted line; moving things are outliers of the fit. The
noise that stays is measured and taken out later, as that of any depth (``pipeline.vision.depth_steadying``).
"""

import numpy as np
from jaxtyping import Float

from pipeline.depth._metric_alignment import fit_line
from pipeline.episodes.spill import in_turn
from pipeline.vision.depth_noise import TO_DEVIATION

MEDIAN_FRAMES = 255
PIXELS = 1024
"""Number of pixels per frame, on a regular grid, to which the line is fitted."""
TOLERANCE = 0.05
"""Largest distance of an inlier from the line with little noise, in standard deviations of the median frame."""
NOISES = 3.0
"""The same in standard deviations of noise. A tighter bound would cut the noise, and the line would follow the cut."""
MOST_NOISE = 0.33
"""Noise, in standard deviations of the median frame, from which on a frame rather shows something else."""
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
    tightest = TOLERANCE * middle.std()
    if tightest == 0:
        return
    for frame in in_turn(inverse):
        sample = frame[grid].astype(np.float64)
        usable = np.isfinite(sample)
        if usable.sum() < 3:
            continue
        seen, usual = sample[usable], middle[usable]
        noise = _noise(seen, usual)
        allowed = NOISES * noise if noise < MOST_NOISE * middle.std() else 0.0
        tolerance = np.full(seen.shape, max(tightest, allowed))
        line = fit_line(seen, usual, tolerance, shifted)
        if line is not None and line.agreeing >= AGREEING:
            frame *= np.float32(line.scale)
            frame += np.float32(line.shift)


def _noise(seen: Float[np.ndarray, " P"], usual: Float[np.ndarray, " P"]) -> float:
    """Standard deviation of a frame around the median frame, by the median: moving things are less than half."""
    level = np.median(usual) / max(np.median(seen), 1e-12)
    off = level * seen - usual
    return TO_DEVIATION * float(np.median(np.abs(off - np.median(off))))
