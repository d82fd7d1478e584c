"""Refuses depth that carries no information, with a named reason, whatever its source."""

import numpy as np
from jaxtyping import Float

from pipeline.episodes.spill import in_turn
from schemas.episode import BadEpisode

FLAT = 1e-6
"""Largest range of depth, as a share of the depth, that counts as constant."""


def check_inverse(camera: str, inverse: Float[np.ndarray, "T H W"]) -> None:
    """Refuse a clip whose estimated inverse depth carries no information; infinite values become NaN, in place.

    Raises:
        BadEpisode: not one value is finite (``depth_not_finite``), all are 0, which is infinitely far
            (``depth_infinite``), or all are the same (``depth_constant``).
    """
    for frame in in_turn(inverse):
        frame[~np.isfinite(frame)] = np.nan
    low, high = bounds(inverse)
    if low > high:
        raise BadEpisode("depth_not_finite", f"camera {camera}: not one value of the estimated depth is finite")
    if high <= 0:
        raise BadEpisode("depth_infinite", f"camera {camera}: all of the estimated depth is infinitely far")
    check_varies(camera, low, high, "estimated")


def bounds(maps: Float[np.ndarray, "T H W"]) -> tuple[float, float]:
    """The smallest and the largest value, ignoring NaN; infinity and minus infinity where there is none."""
    low, high = np.inf, -np.inf
    for frame in in_turn(maps):  # one at a time: all of a long episode's would not fit into memory
        low = float(np.fmin(low, np.fmin.reduce(frame, axis=None)))
        high = float(np.fmax(high, np.fmax.reduce(frame, axis=None)))
    return low, high


def check_varies(camera: str, low: float, high: float, kind: str) -> None:
    """Refuse depth whose smallest and largest values are the same.

    Raises:
        BadEpisode: they are.
    """
    if high - low <= FLAT * abs(high):
        raise BadEpisode("depth_constant", f"camera {camera}: all of the {kind} depth is the same")
