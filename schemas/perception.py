"""Results of trackers and depth estimators."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Tracks2D:
    """Keypoints of one reference frame followed through the next steps, in pixels (see ``schemas.cameras``).

    Attributes:
        reference: index of the frame on which the points were set.
        uv: position at steps 0..T; the last known one where not visible.
        visible: the point was seen and its track trusted at that step. False after the episode's end.
    """

    reference: int
    uv: Float[np.ndarray, "K S 2"]
    visible: Bool[np.ndarray, "K S"]


@dataclass(frozen=True)
class DepthAlignment:
    """How estimated depth was scaled to metres, by one linear fit for the whole episode,
    ``1 / z = scale * estimate + shift``.

    Attributes:
        method: what it was fitted to: ``recorded`` depth, the table ``plane``, or the ``robot``'s tool.
        scale: 1/m for each unit of the estimated inverse depth.
        shift: 1/m; 0 where only the scale was fitted.
        residual: median distance in ``residual_unit`` between aligned depth and the anchors, over all anchors.
        residual_unit: ``m``.
        anchors: pixels or moments with known depth.
        agreeing: share of anchors that are inliers of the fit; the rest were treated as occluded by something else.
    """

    method: str
    scale: float
    shift: float
    residual: float
    residual_unit: str
    anchors: int
    agreeing: float


@dataclass(frozen=True)
class DepthNoise:
    """Noise of depth between frames, measured from the clip; standard deviations, as shares of depth.

    Attributes:
        pixel: of single pixels.
        flicker: of the factor on a whole frame.
        left: of single pixels where things move, after depth was steadied.
    """

    pixel: float
    flicker: float
    left: float


@dataclass(frozen=True)
class DepthMaps:
    """Depth of every frame of a clip.

    Attributes:
        depth: along the optical axis in ``unit``; NaN where unknown.
        unit: ``m``, or ``relative``: scale and shift of inverse depth are unknown, and the median over the clip is 1,
            so that thresholds in metres are shares of the median depth.
        source: the estimator and its input, in words.
        alignment: how it was scaled to metres; None where it was in metres already, or is relative.
        noise: as measured from the clip; None where it was not measured, or is no more than a sensor's quantisation.
    """

    depth: Float[np.ndarray, "T H W"]
    unit: str
    source: str
    alignment: DepthAlignment | None = None
    noise: DepthNoise | None = None
