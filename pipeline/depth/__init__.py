"""Depth estimators: one module each (see ``schemas.plugins``), run once for each frame of an episode.

A module defines ``Config`` and ``build(config)``, which gives a ``DepthEstimator``.
"""

from typing import Protocol, runtime_checkable

from schemas.episode import CameraView, Episode
from schemas.perception import DepthMaps
from schemas.plugins import PluginChoice, build_plugin


@runtime_checkable
class DepthEstimator(Protocol):
    """Estimates depth for every frame of a camera.

    Attributes:
        needs_all_frames: whether it needs all frames at once (for example to find one scale for all), or is expensive
            per frame. An episode processed in chunks (``pipeline.episodes.chunks``) is then passed to it once, as a
            whole.
    """

    needs_all_frames: bool

    def estimate(self, episode: Episode, view: CameraView, long: bool = False) -> DepthMaps:
        """Depth of the whole episode, each frame once.

        Args:
            episode: other data of the episode, used to convert relative depth to metres.
            view: one of its cameras.
            long: the episode is too long for memory: frames are read a few at a time, and depth is written to a
                temporary file (``pipeline.episodes.spill``).

        Raises:
            BadEpisode: this estimator cannot estimate depth for this episode; the message names the alternatives.
        """
        ...


def make_depth_estimator(choice: PluginChoice) -> DepthEstimator:
    """The depth estimator that was chosen.

    Raises:
        UnknownPlugin: no depth estimator has this name.
        MissingDependency: what it needs is not there.
        ValueError: an unknown option or value.
    """
    return build_plugin(__name__, choice)
