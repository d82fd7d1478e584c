"""What trackers and depth estimators hand over."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Tracks2D:
    """Keypoints of one reference frame followed through the next steps, in pixels (see ``schemas.cameras``).

    Attributes:
        reference: index of the frame on which the points were set.
        uv: position at steps 0..T; where not visible the last known one.
        visible: the point was seen and its track trusted at that step. False after the episode's end.
    """

    reference: int
    uv: Float[np.ndarray, "K S 2"]
    visible: Bool[np.ndarray, "K S"]


@dataclass(frozen=True)
class DepthMaps:
    """Depth of every frame of a clip.

    Attributes:
        depth: along the optical axis in ``unit``; NaN where unknown.
        unit: ``m``, or ``relative`` when the scale is unknown.
        source: which estimator made it and from what, in words.
    """

    depth: Float[np.ndarray, "T H W"]
    unit: str
    source: str
