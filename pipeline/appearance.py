"""What a point looks like: the small square of grey around it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

PATCH = 5
"""Side in px of the square by which a point is recognised."""
SQUARE = np.stack(np.meshgrid(*[np.arange(PATCH) - PATCH // 2] * 2), -1).reshape(-1, 2)


def patches(image: UInt8[np.ndarray, "H W"], centres: Float[np.ndarray, "M 2"]) -> Float[np.ndarray, "M P"]:
    """Squares around image points (``schemas.cameras``), bilinearly sampled, in grey levels."""
    import cv2

    at = (centres[:, None] - 0.5 + SQUARE).astype(np.float32)
    sampled = cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.astype(np.float32)


def unlikeness(
    images: Sequence[UInt8[np.ndarray, "H W"]],
    one: tuple[Int[np.ndarray, "M"], Float[np.ndarray, "M 2"]],
    other: tuple[Int[np.ndarray, "M"], Float[np.ndarray, "M 2"]],
) -> Float[np.ndarray, "M"]:
    """Mean grey difference between patches, each given by its frame and place."""
    return np.abs(_gather(images, *one) - _gather(images, *other)).mean(axis=1)


def _gather(images, frames: Int[np.ndarray, "M"], places: Float[np.ndarray, "M 2"]) -> Float[np.ndarray, "M P"]:
    found = np.empty((len(places), PATCH * PATCH), np.float32)
    for frame in np.unique(frames):
        mine = frames == frame
        found[mine] = patches(images[frame], places[mine])
    return found
