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
    """Finds the intrinsics and the pose of every frame.

    Attributes:
        needs_all_frames: whether it needs all frames at once. An episode processed in chunks
            (``pipeline.episodes.chunks``) is then passed to it once, as a whole, with frames and depth in temporary
            files; the solver must load only a few of them at a time.
    """

    needs_all_frames: bool

    def solve(self, view: CameraView, depth: DepthMaps) -> Cameras:
        """The cameras of an episode.

        Raises:
            BadEpisode: this solver cannot find the cameras of this episode.
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
