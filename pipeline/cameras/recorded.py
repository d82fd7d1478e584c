"""A camera whose pose was recorded for every frame, whether it moves or not."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from schemas.cameras import Cameras
from schemas.episode import BadEpisode, CameraView
from schemas.perception import DepthMaps


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def build(config: Config) -> "RecordedCamera":
    """The solver."""
    return RecordedCamera()


class RecordedCamera:
    """See ``pipeline.cameras.CameraSolver``."""

    needs_all_frames = False

    def solve(self, view: CameraView, depth: DepthMaps) -> Cameras:
        """The view's own intrinsics and poses.

        Raises:
            BadEpisode: one of them is missing, or there is not one rigid, finite pose per frame.
        """
        poses = view.world_from_camera
        missing = [
            name for name, found in (("intrinsics", view.intrinsics), ("recorded poses", poses)) if found is None
        ]
        if view.intrinsics is None or poses is None:
            raise BadEpisode(
                "no_camera_poses",
                f"camera {view.name} has no {' and no '.join(missing)}; --camera static serves a camera that stands "
                "still, --camera estimated finds the poses of others",
            )
        if (fault := fault_of_poses(poses, view.length)) is not None:
            raise BadEpisode("bad_camera_poses", f"camera {view.name}: {fault}")
        return Cameras(
            intrinsics=view.intrinsics,
            world_from_camera=np.broadcast_to(poses, (view.length, 4, 4)).copy(),
            size=view.size,
            moving=bool(np.abs(poses - poses[:1]).max() > 0),
            intrinsics_source=view.intrinsics_source,
            pose_source=f"recorded; {view.pose_source}",
        )


def fault_of_poses(poses: Float[np.ndarray, "P 4 4"], length: int) -> str | None:
    """Why poses cannot be those of a view of so many frames, in words; None where they can."""
    if len(poses) not in (1, length):
        return f"expected one pose or {length}, one a frame, found {len(poses)}"
    rotation = poses[:, :3, :3]
    rigid = np.isfinite(poses).all() and np.allclose(rotation @ rotation.swapaxes(1, 2), np.eye(3), atol=1e-4)
    if not (rigid and (np.linalg.det(rotation) > 0).all()):
        return "a recorded pose is not finite or not a rotation and a shift"
    return None
