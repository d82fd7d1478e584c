"""Camera solvers: one module each (see ``schemas.plugins``).

A module defines ``Config`` and ``build(config)``, which gives a ``CameraSolver``.
"""

from typing import Protocol, runtime_checkable

from schemas.cameras import Cameras
from schemas.episode import CameraView
from schemas.perception import DepthMaps
from schemas.plugins import PluginChoice, build_plugin


@runtime_checkable
class CameraSolver(Protocol):
    """Gives intrinsics and the pose of every frame.

    Attributes:
        needs_all_frames: whether it finds them from all frames together: an episode that is worked on in chunks
            (``pipeline.episodes.chunks``) is then given to it once, as a whole, its frames and depth in temporary
            files; so it takes few of them into memory at a time.
    """

    needs_all_frames: bool

    def solve(self, view: CameraView, depth: DepthMaps) -> Cameras:
        """The cameras of an episode.

        Raises:
            BadEpisode: this episode's cameras cannot be had this way.
        """
        ...


def make_camera_solver(choice: PluginChoice) -> CameraSolver:
    """The camera solver that was chosen.

    Raises:
        UnknownPlugin: no camera solver has this name.
        MissingDependency: what it needs is not there.
        ValueError: an unknown option or value.
    """
    return build_plugin(__name__, choice)
