"""Depth estimators: one module each (see ``schemas.plugins``), run once for each frame of an episode.

A module defines ``Config`` and ``build(config)``, which gives a ``DepthEstimator``.
"""

from typing import Protocol, runtime_checkable

from schemas.episode import CameraView
from schemas.perception import DepthMaps


@runtime_checkable
class DepthEstimator(Protocol):
    """Gives depth for every frame of a camera."""

    def estimate(self, view: CameraView) -> DepthMaps:
        """Depth of the whole episode.

        Raises:
            BadEpisode: this episode cannot be given depth by this estimator; the message names the choices.
        """
        ...
