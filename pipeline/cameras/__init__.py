"""Camera solvers: one module each (see ``schemas.plugins``).

A module defines ``Config`` and ``build(config)``, which gives a ``CameraSolver``.
"""

from typing import Protocol, runtime_checkable

from schemas.cameras import Cameras
from schemas.episode import CameraView
from schemas.perception import DepthMaps


@runtime_checkable
class CameraSolver(Protocol):
    """Gives intrinsics and the pose of every frame.

    One that finds them from all frames together says ``sees_whole = True``: an episode that is gone through in pieces
    is then shown to it as a whole, once (``pipeline.episodes.chunks``), its frames and depth in temporary files; so it
    takes few of them into memory at a time.
    """

    def solve(self, view: CameraView, depth: DepthMaps) -> Cameras:
        """The cameras of an episode.

        Raises:
            BadEpisode: this episode's cameras cannot be had this way.
        """
        ...
