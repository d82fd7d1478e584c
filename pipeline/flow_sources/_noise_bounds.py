"""Thresholds for depth that is noisy."""

from dataclasses import replace

import numpy as np

from pipeline.flow_sources._track_checks import TrustConfig
from pipeline.vision.depth_noise import EXACT
from schemas.perception import DepthMaps

DEVIATIONS = 3.0
"""Standard deviations of the measured noise that the tests allow for."""
FRAMES = 8
"""Frames of which the median depth is taken, to convert shares of depth to metres."""


def tolerated(depth: DepthMaps) -> float:
    """Share of depth by which a place that stands still may differ from frame to frame, as measured."""
    return EXACT if depth.noise is None else max(EXACT, DEVIATIONS * depth.noise.left)


def edge_of_noise(depth: DepthMaps) -> float:
    """Bend of inverse depth from one pixel to the next, as a share of it, that noise makes."""
    return 0.0 if depth.noise is None else DEVIATIONS * depth.noise.left


def for_noise_of(depth: DepthMaps, config: TrustConfig) -> TrustConfig:
    """The thresholds for a clip: ``depth_noise`` as given, or as measured, and bounds on motion that allow for it."""
    if config.depth_noise is not None or depth.noise is None:
        return config
    share = depth.noise.left
    few = depth.depth[np.unique(np.linspace(0, len(depth.depth) - 1, FRAMES).astype(int))]
    metres = share * float(np.nanmedian(few)) / config.tolerance  # the tolerance multiplies all of them again
    return replace(
        config,
        depth_noise=tolerated(depth),
        covered=max(config.covered, DEVIATIONS * share),
        stretch=config.stretch + metres,
        agree=float(np.hypot(config.agree, metres)),
        astray=config.astray + DEVIATIONS * metres,
        match=config.match + DEVIATIONS * metres,
    )
