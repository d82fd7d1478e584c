"""Appearance of a point: the small grey patch around it."""

import numpy as np
from jaxtyping import Float, Int, UInt8

PATCH = 5
"""Side in px of the square that describes the appearance of a point."""


def grey_clip(frames: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T H W"]:
    """RGB frames in grey levels."""
    import cv2

    grey = np.empty(frames.shape[:3], np.uint8)
    for level, frame in zip(grey, frames, strict=True):
        cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY, dst=level)
    return grey


def patches(
    clip: UInt8[np.ndarray, "T H W"], frames: Int[np.ndarray, " M"], centres: Float[np.ndarray, "M 2"]
) -> Float[np.ndarray, "M P"]:
    """Squares around image points (``schemas.cameras``), bilinearly sampled, in grey levels; beyond the border the
    nearest pixels are repeated.

    Args:
        clip: grey frames.
        frames: the frame of each point.
        centres: points, in px.
    """
    height, width = clip.shape[1:]
    first = centres - 0.5 - PATCH // 2
    corner = np.floor(first)
    x, y = (first - corner).astype(np.float32).T[..., None, None]
    reach = np.arange(PATCH + 1)
    column = np.clip(corner[:, :1].astype(int) + reach, 0, width - 1)
    row = np.clip(corner[:, 1:].astype(int) + reach, 0, height - 1) + frames[:, None] * height
    pixels = clip.reshape(-1).take(row[:, :, None] * width + column[:, None]).astype(np.float32)
    pixels = pixels[:, :-1] + y * (pixels[:, 1:] - pixels[:, :-1])
    pixels = pixels[..., :-1] + x * (pixels[..., 1:] - pixels[..., :-1])
    return pixels.reshape(-1, PATCH * PATCH)


def patch_distance(one: Float[np.ndarray, "M P"], other: Float[np.ndarray, "M P"]) -> Float[np.ndarray, " M"]:
    """Mean grey difference between patches."""
    return np.abs(one - other).mean(axis=1)
