"""Corners that camera poses are estimated from, spread over the whole picture, and their weights.

Each corner is weighted by the area of the world that it shows, which grows with z * z at depth z. So a gripper that is
always in a wrist camera's picture, or a robot arm close to a fixed camera, has little weight compared with the table
and the wall behind it, however many pixels it covers.
"""

import itertools

import numpy as np
from jaxtyping import Bool, Float, UInt8

CELLS = 16
"""The picture is divided into so many rows and columns, and the best corner of each cell is taken."""
WEAKEST = 1.5e-4
"""Smallest eigenvalue of a corner's gradients in OpenCV's scale: below it a patch looks the same when it is shifted."""
BORDER = 6
"""Px from the picture's rim at which corners begin."""


def corners(
    grey: UInt8[np.ndarray, "H W"], usable: Bool[np.ndarray, "H W"] | None = None, cells: int = CELLS
) -> Float[np.ndarray, "N 2"]:
    """The best corner of every cell that has one, in px (``schemas.cameras``).

    Args:
        grey: the picture.
        usable: where corners may lie; None for anywhere.
        cells: rows and columns.
    """
    import cv2

    strength = cv2.cornerMinEigenVal(grey, 5)
    if usable is not None:
        strength = np.where(usable, strength, 0)
    height, width = strength.shape
    strength[:BORDER] = strength[height - BORDER :] = strength[:, :BORDER] = strength[:, width - BORDER :] = 0
    found = []
    rows, columns = (np.linspace(0, n, cells + 1).astype(int) for n in (height, width))
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            cell = strength[top:bottom, left:right]
            if cell.size and cell.max() > WEAKEST:
                row, column = np.unravel_index(np.argmax(cell), cell.shape)
                found.append((left + column + 0.5, top + row + 0.5))
    return np.array(found, np.float64).reshape(-1, 2)


def area_weights(z: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """The area of the world that a pixel at each depth shows, as a share of the total. Large depths are capped, because
    they are the least certain.
    """
    if not len(z):
        return z
    weight = np.minimum(z, 3 * np.median(z)) ** 2
    return weight / weight.sum()


def weighted_quantile(values: Float[np.ndarray, " N"], weights: Float[np.ndarray, " N"], share: float) -> float:
    """The value below which ``share`` of the weight lies."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(reached, share * reached[-1])), len(values) - 1)])
