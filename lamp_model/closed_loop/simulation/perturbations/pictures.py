"""Noise of the camera: what a worse sensor and lens would give."""

import numpy as np

GREY_VALUES, BLUR = 6.0, 0.5


def noisy(picture: np.ndarray, strength: float, drawn: np.random.Generator) -> np.ndarray:
    """A picture (H x W x 3, uint8) blurred, with noise in each value."""
    grain = drawn.normal(0, GREY_VALUES * strength, picture.shape)
    return np.clip(np.round(blurred(picture.astype(float), BLUR * strength) + grain), 0, 255).astype(np.uint8)


def blurred(picture: np.ndarray, deviation: float) -> np.ndarray:
    """A Gaussian blur; ``deviation`` in pixels. The border is repeated beyond the picture."""
    reach = max(int(np.ceil(3 * deviation)), 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        margins = [(reach, reach) if one == axis else (0, 0) for one in range(picture.ndim)]
        wide = np.pad(picture, margins, mode="edge")
        size = picture.shape[axis]
        parts = (weight * np.take(wide, range(at, at + size), axis=axis) for at, weight in enumerate(weights))
        picture = np.sum(list(parts), axis=0)
    return picture
