"""Pyramidal Lucas-Kanade (OpenCV), forward and backward: matches points of one picture in another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8


@dataclass(frozen=True)
class Matching:
    """How two pictures are matched.

    Attributes:
        window: side of the square that is matched, in px, odd. OpenCV processes rows eight pixels at a time: 17 takes
            two thirds of the time of 15.
        levels: pyramid levels above the full image.
        iterations: at most, per level.
        forward_backward: largest forward-backward error of a match, in px.
    """

    window: int = 17
    levels: int = 3
    iterations: int = 20
    forward_backward: float = 1.0


def match(
    one: UInt8[np.ndarray, "H W"],
    other: UInt8[np.ndarray, "H W"],
    position: Float[np.ndarray, "M 2"],
    how: Matching,
    guess: Float[np.ndarray, "M 2"] | None = None,
) -> tuple[Float[np.ndarray, "M 2"], Bool[np.ndarray, " M"]]:
    """Positions in ``other`` of points of ``one``, in px (``schemas.cameras``), and whether forward and backward agree.

    Args:
        one, other: grey pictures.
        position: in ``one``.
        how: settings.
        guess: initial positions in ``other``; None to start from ``position``.
    """
    import cv2

    if len(position) == 0:
        return position.astype(np.float64), np.zeros(0, bool)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, how.iterations, 0.01)
    options: dict[str, Any] = {
        "winSize": (how.window, how.window),
        "maxLevel": how.levels,
        "criteria": criteria,
    }
    # OpenCV puts the centre of the first pixel at 0, this project at 0.5.
    start = (position - 0.5).astype(np.float32)
    follow: Any = cv2.calcOpticalFlowPyrLK  # its type stubs require the output argument, which is optional
    if guess is None:
        ahead, found, _ = follow(one, other, start, None, **options)
        back, found_back, _ = follow(other, one, ahead, None, **options)
    else:
        options["flags"] = cv2.OPTFLOW_USE_INITIAL_FLOW
        ahead, found, _ = follow(one, other, start, (guess - 0.5).astype(np.float32), **options)
        home = start + (ahead - (guess - 0.5)).astype(np.float32)  # start as far from the result as the guess was
        back, found_back, _ = follow(other, one, ahead, home, **options)
    good = (found[:, 0] == 1) & (found_back[:, 0] == 1)
    good &= np.linalg.norm(back - start, axis=1) < how.forward_backward
    return ahead.astype(np.float64) + 0.5, good
