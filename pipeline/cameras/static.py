"""A camera that stands still: one pose for all frames, intrinsics as the dataset gives them."""

from dataclasses import dataclass

import numpy as np

from schemas.cameras import Cameras, intrinsics_from_fov
from schemas.episode import BadEpisode, CameraView
from schemas.perception import DepthMaps


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        fov_y: vertical field of view in degrees, for datasets that give no intrinsics; None to refuse those.
    """

    fov_y: float | None = None


def build(config: Config) -> "StaticCamera":
    """The solver."""
    return StaticCamera(config)


class StaticCamera:
    """See ``pipeline.cameras.CameraSolver``."""

    def __init__(self, config: Config):
        self.config = config

    def solve(self, view: CameraView, depth: DepthMaps) -> Cameras:
        """The view's intrinsics and its pose in every frame; the world is the camera's own frame where no pose is known."""
        if not view.fixed:
            raise BadEpisode(
                "moving_camera", f"camera {view.name} moves; --camera static is for cameras that stand still"
            )
        intrinsics, source = view.intrinsics, view.intrinsics_source
        if intrinsics is None:
            if self.config.fov_y is None:
                raise BadEpisode(
                    "no_intrinsics",
                    f"camera {view.name} has no intrinsics; give its vertical field of view with --camera-options fov_y=DEGREES",
                )
            intrinsics = intrinsics_from_fov(self.config.fov_y, *view.size)
            source = f"vertical field of view of {self.config.fov_y:g} degrees, as configured"
        pose, pose_source = np.eye(4), "static; world = camera"
        if view.world_from_camera is not None:
            pose, pose_source = view.world_from_camera[0], f"static; {view.pose_source}"
        return Cameras(
            intrinsics=intrinsics,
            world_from_camera=np.tile(pose, (view.length, 1, 1)),
            size=view.size,
            moving=False,
            intrinsics_source=source,
            pose_source=pose_source,
        )
