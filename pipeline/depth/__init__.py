"""Depth estimators: one module each (see ``schemas.plugins``), run once for each frame of an episode.

A module defines ``Config`` and ``build(config)``, which gives a ``DepthEstimator``.
"""

from typing import Protocol, runtime_checkable

from schemas.episode import CameraView, Episode
from schemas.perception import DepthMaps


@runtime_checkable
class DepthEstimator(Protocol):
    """Gives depth for every frame of a camera.

    One that says something of all the frames that it sees, such as a scale, also has ``see_whole(episode, view)``: it is called before an
    episode is gone through in pieces (``pipeline.pieces``).
    """

    def estimate(self, episode: Episode, view: CameraView) -> DepthMaps:
        """Depth of the whole episode, each frame once.

        Args:
            episode: what else is known, by which relative depth is brought to metres.
            view: one of its cameras.

        Raises:
            BadEpisode: this episode cannot be given depth by this estimator; the message names the choices.
        """
        ...
