"""What cameras are known by: corners of the picture, spread over all of it, and how much of the world each stands for.

The world is what most square metres agree on. A pixel at depth z shows an area that grows with z * z; so a gripper that
is always in a wrist camera's picture, or a robot arm close to a fixed one, weighs little beside the table and the wall
behind it, however many pixels it covers.
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
    """Square metres that a pixel at these depths shows, as shares of all; far ones are capped, for their depth is the
    least sure.
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
