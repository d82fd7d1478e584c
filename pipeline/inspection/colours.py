"""Colours that the pictures and the page share. Both scales can be read by colour-blind people and in grey.

Depth change: blue is away from the camera, orange towards it, near white no change. Depth: dark is near, bright is far.
"""

import math

import numpy as np

DEPTH_CHANGE = (
    (0.0, "#ff5a00"),
    (0.25, "#ffab52"),
    (0.5, "#f7f5f0"),
    (0.75, "#6db4f5"),
    (1.0, "#1565d8"),
)
"""From -limit (towards the camera) over 0 to +limit (away from it)."""
DEPTH_MAP = "cividis"
NO_DEPTH = "#8a8a8a"


def nice_limit(values: np.ndarray, least: float) -> float:
    """The end of a symmetric scale: the 95th percentile of the magnitudes, at least ``least``, rounded up to a plain
    number.
    """
    wanted = max(float(np.percentile(np.abs(values), 95)) if values.size else 0.0, least)
    power = 10.0 ** math.floor(math.log10(wanted) + 1e-9)
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 8, 10) if step * power >= wanted * (1 - 1e-9))


def change_colours():
    """The scale of depth change as a matplotlib colour map."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("depth change", DEPTH_CHANGE)


def change_table(size: int = 65) -> list[str]:
    """The scale of depth change as ``#rrggbb`` from -limit to +limit."""
    from matplotlib.colors import to_hex

    return [to_hex(c) for c in change_colours()(np.linspace(0, 1, size))]


def depth_table(size: int = 64) -> list[str]:
    """The depth scale as ``#rrggbb`` from near to far."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(c) for c in colormaps[DEPTH_MAP](np.linspace(0, 1, size))]
