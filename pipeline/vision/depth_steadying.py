"""Takes noise out of the depth of a static camera: what stands still gets one depth for the whole time that it is seen.

Each pixel keeps a few *surfaces*: what it looked like, and the mean of the depths that were seen with that look. A
frame's depth is first divided by the factor by which the whole frame differs from the surfaces (flicker). A pixel that
looks like one of its surfaces and whose depth differs no more than noise does belongs to it; so a place that is covered
for a while has the same depth afterwards. Other pixels, of things that move, are smoothed over their neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int8, UInt8

from pipeline.episodes.spill import empty, in_turn
from pipeline.vision.depth_noise import FEWEST, QUIET, TO_DEVIATION
from schemas.perception import DepthNoise

SURFACES = 3
"""Surfaces kept for each pixel."""
SAME = 5.0
"""Mean grey difference (0..255) over a patch up to which a pixel looks like a surface."""
PATCH = 5
OFF = 4.5
"""Standard deviations by which the depth of a pixel, or of a patch, may differ from its surface's."""
SEEN = 8
"""Frames that a surface must have been seen in; with fewer, its depth is hardly better than a frame's own."""
BRIEF = 3
"""A surface seen in fewer frames gives way to a new one."""
BLUR = 3.0
"""Standard deviations of noise by which neighbours that are mixed differ."""


@dataclass
class _Surface:
    """One surface of every pixel; ``count`` is 0 where there is none."""

    look: Float[np.ndarray, "H W"]
    total: Float[np.ndarray, "H W"]  # of the logarithms of depth
    count: Float[np.ndarray, "H W"]
    born: Float[np.ndarray, "H W"]  # the frame in which it was first seen
    last: Float[np.ndarray, "H W"]


def steady(
    depth: Float[np.ndarray, "T H W"], grey: Callable[[int], UInt8[np.ndarray, "H W"]], noise: DepthNoise
) -> float:
    """Take the noise out of a static camera's depth, in place; returns the noise that is left where things move, as a
    share of depth.

    Args:
        depth: NaN where unknown. Where it is a file's array, so are the numbers that are needed on the way.
        grey: gives the picture of a frame.
        noise: measured (``pipeline.vision.depth_noise``).
    """
    import cv2

    long = isinstance(depth, np.memmap)
    shape = depth.shape[1:]
    surfaces = [_Surface(*(np.zeros(shape, np.float32) for _ in range(5))) for _ in range(SURFACES)]
    belongs, births = empty(depth.shape, np.int8, long), empty(depth.shape, np.float32, long)
    factors = []
    for number, frame in enumerate(in_turn(depth)):
        np.log(frame, out=frame)
        looks = grey(number).astype(np.float32)
        alike = [(s.count > 0) & (cv2.blur(np.abs(looks - s.look), (PATCH, PATCH)) <= SAME) for s in surfaces]
        frame -= (factor := _factor(frame, surfaces, alike))
        factors.append(factor)
        belongs[number], births[number] = _assign(frame, looks, surfaces, alike, number, noise)
    middle = np.float32(np.mean(factors))
    means = [_mean(s, noise) + middle for s in surfaces]
    left = []
    for number, frame in enumerate(in_turn(depth)):
        frame += middle
        pooled = np.full(shape, np.nan, np.float32)
        for index, (s, mean) in enumerate(zip(surfaces, means, strict=True)):
            mine = (belongs[number] == index) & (births[number] == s.born)
            pooled[mine] = mean[mine]
        own = _smooth(frame, BLUR * noise.pixel)
        still = np.isfinite(pooled)
        if still.sum() > FEWEST:
            left.append(float(np.median(np.abs(own[still] - pooled[still]))))
        frame[:] = np.exp(np.where(still, pooled, own))
    return TO_DEVIATION * float(np.median(left)) if left else max(noise.pixel, noise.flicker)


def _factor(
    frame: Float[np.ndarray, "H W"], surfaces: list[_Surface], alike: list[Bool[np.ndarray, "H W"]]
) -> np.float32:
    """Logarithm of the factor by which a frame's depth differs from the surfaces that it shows; 0 if it shows few."""
    apart = [(frame - s.total / np.maximum(s.count, 1))[same] for s, same in zip(surfaces, alike, strict=True)]
    together = np.concatenate(apart)
    together = together[np.isfinite(together)]
    return np.float32(np.median(together)) if together.size > FEWEST else np.float32(0)


def _assign(
    frame: Float[np.ndarray, "H W"],
    looks: Float[np.ndarray, "H W"],
    surfaces: list[_Surface],
    alike: list[Bool[np.ndarray, "H W"]],
    number: int,
    noise: DepthNoise,
) -> tuple[Int8[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Which surface each pixel of a frame belongs to (-1 for none) and since when; Surfaces are updated."""
    sigma = max(noise.pixel, QUIET)
    free = np.isfinite(frame)
    which, born = np.full(frame.shape, -1, np.int8), np.zeros(frame.shape, np.float32)
    for index, (s, same) in enumerate(zip(surfaces, alike, strict=True)):
        off = frame - s.total / np.maximum(s.count, 1)
        fits = free & same & (np.abs(off) <= OFF * sigma * np.sqrt(1 + 1 / np.maximum(s.count, 1)))
        s.total[fits] += frame[fits]
        s.count[fits] += 1
        s.last[fits] = number
        which[fits], born[fits] = index, s.born[fits]
        free &= ~fits
    # New surfaces take the place of the briefest; of equal ones, of the one not seen for longest.
    if free.any():
        rank = np.stack([np.minimum(s.count, BRIEF) * 1e6 + s.last for s in surfaces])
        place = rank.argmin(axis=0)
        for index, s in enumerate(surfaces):
            new = free & (place == index) & (s.count < BRIEF)
            s.look[new], s.total[new], s.count[new] = looks[new], frame[new], 1
            s.born[new] = s.last[new] = number
            which[new], born[new] = index, number
    return which, born


def _mean(s: _Surface, noise: DepthNoise) -> Float[np.ndarray, "H W"]:
    """Logarithm of the depth of each pixel's surface, NaN where it was seen too briefly."""
    enough = s.count >= SEEN
    mean = np.where(enough, s.total / np.maximum(s.count, 1), np.float32(np.nan))
    return _smooth(mean, BLUR * noise.pixel / float(np.sqrt(np.median(s.count[enough])))) if enough.any() else mean


def _smooth(frame: Float[np.ndarray, "H W"], differ: float) -> Float[np.ndarray, "H W"]:
    """Logarithms of depth, smoothed over neighbours that differ by no more than about ``differ``."""
    import cv2

    known = np.isfinite(frame)
    if not known.any():
        return frame
    filled = np.where(known, frame, frame[known].max() + np.float32(1))  # far from everything: mixed with nothing
    return np.where(known, cv2.bilateralFilter(filled, 7, differ + 1e-6, 2.0), frame)
