"""The display matrix of a video file: its stored pictures are shown rotated by multiples of 90 degrees or mirrored."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from schemas.episode import BadEpisode

ONE = 1 << 16
"""The matrix holds numbers as 16.16 fixed point."""
EXACT = 1e-3


def display_matrix(name: str, frame: Any) -> tuple[int, int, int, int]:
    """The display matrix of a decoded frame: a, b, c, d of -1, 0 or 1. Column x and row y are shown in column
    a x + c y and row b x + d y, apart from a shift.

    Raises:
        BadEpisode: the matrix rotates by another angle, or shears.
    """
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    numbers = np.frombuffer(bytes(data), np.int32).astype(np.float64)[[0, 1, 3, 4]] / ONE
    a, b, c, d = nearest = tuple(int(number) for number in np.rint(numbers))
    if (
        np.abs(numbers - nearest).max() > EXACT
        or sorted((abs(a), abs(b))) != [0, 1]
        or (abs(c), abs(d))
        != (
            abs(b),
            abs(a),
        )
    ):
        said = ", ".join(f"{number:.3g}" for number in numbers)
        raise BadEpisode(
            "bad_video", f"{name}: its pictures are to be shown by the matrix {said}, which is no quarter turn"
        )
    return a, b, c, d


def swaps_sides(matrix: tuple[int, int, int, int]) -> bool:
    """Whether width and height are swapped."""
    return matrix[0] == 0


def shown(image: UInt8[np.ndarray, "H W 3"], matrix: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A stored picture as it is shown."""
    a, b, c, d = matrix
    if swaps_sides(matrix):
        image, right, down = image.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return image[::down, ::right]
