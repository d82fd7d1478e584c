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
class DepthAlignment:
    """How an estimate of depth was brought to metres: one line for the whole episode,
    ``1 / z = scale * estimate + shift``.

    Attributes:
        method: what it was fitted to: ``recorded`` depth, the table ``plane``, or the ``robot``'s tool.
        scale: 1/m for each unit of the estimated inverse depth.
        shift: 1/m; 0 where only the scale was fitted.
        residual: median distance in ``residual_unit`` between aligned depth and the anchors, over all anchors.
        residual_unit: ``m``.
        anchors: pixels or moments with known depth.
        agreeing: share of the anchors that the fit rests on; the rest were taken for something else in the way.
    """

    method: str
    scale: float
    shift: float
    residual: float
    residual_unit: str
    anchors: int
    agreeing: float


@dataclass(frozen=True)
class DepthMaps:
    """Depth of every frame of a clip.

    Attributes:
        depth: along the optical axis in ``unit``; NaN where unknown.
        unit: ``m``, or ``relative``: scale and shift of inverse depth are unknown, and the median over the clip is 1,
            so that thresholds in metres are shares of the median depth.
        source: which estimator made it and from what, in words.
        alignment: how it was brought to metres; None where it came in metres, or is relative.
    """

    depth: Float[np.ndarray, "T H W"]
    unit: str
    source: str
    alignment: DepthAlignment | None = None
