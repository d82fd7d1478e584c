"""Depth estimators: one module each (see ``schemas.plugins``), run once for each frame of an episode.

A module defines ``Config`` and ``build(config)``, which gives a ``DepthEstimator``.
"""

from typing import Protocol, runtime_checkable

from schemas.episode import CameraView, Episode
from schemas.perception import DepthMaps
from schemas.plugins import PluginChoice, build_plugin


@runtime_checkable
class DepthEstimator(Protocol):
    """Gives depth for every frame of a camera.

    Attributes:
        needs_all_frames: whether it says something of all frames at once, such as a scale, or its frames cost much: an
            episode that is worked on in chunks (``pipeline.episodes.chunks``) is then given to it once, as a whole.
    """

    needs_all_frames: bool

    def estimate(self, episode: Episode, view: CameraView, long: bool = False) -> DepthMaps:
        """Depth of the whole episode, each frame once.

        Args:
            episode: what else is known, by which relative depth is brought to metres.
            view: one of its cameras.
            long: the episode is too long for memory: frames are asked for some at a time, and depth is put into a
                temporary file (``pipeline.episodes.spill``).

        Raises:
            BadEpisode: this episode cannot be given depth by this estimator; the message names the choices.
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
