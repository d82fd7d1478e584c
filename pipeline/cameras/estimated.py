"""A moving camera without recorded poses: they are estimated from tracks and depth of the background.

Corners of key frames are tracked through the clip (``_keyframe_tracking``). Each frame gets the rigid motion that fits
the largest area of the world, so moving things and a gripper fixed to the camera are left out (``_ransac_pose``).
Finally all poses are refined together (``_bundle_adjustment``). Depth must keep its scale over the episode; the poses'
unit is the depth's.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.cameras._bundle_adjustment import refine
from pipeline.cameras._clip import Clip
from pipeline.cameras._focal_search import estimated_intrinsics
from pipeline.cameras._intrinsics import check_fov, known_intrinsics
from pipeline.cameras._keyframe_tracking import Follower, Placed
from pipeline.cameras._ransac_pose import Noise
from pipeline.vision.poses import poses_between
from schemas.cameras import Cameras, invert_pose, lift, project, transform
from schemas.episode import BadEpisode, CameraView
from schemas.perception import DepthMaps

STILL = 0.3
"""Upper bound, in px, of the median motion of the background in every frame of a static camera."""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        fov_y: vertical field of view in degrees, for datasets that give no intrinsics; None to estimate it.
        pixel_noise: upper bound of the standard deviation of a point's position, in px.
        depth_noise: upper bound of the standard deviation of depth from frame to frame, as a share of the depth;
            estimated depth needs a larger one.
        min_points: points of the background needed to estimate a frame's pose.
        jump_degrees: largest rotation of the camera from one frame to the next; above it, camera_jump.
        jump_share: largest translation between two frames, as a share of the scene's median depth; above it,
            camera_jump.
    """

    fov_y: float | None = None
    pixel_noise: float = 0.5
    depth_noise: float = 0.01
    min_points: int = 16
    jump_degrees: float = 15.0
    jump_share: float = 0.25

    def __post_init__(self) -> None:
        check_fov("estimated", self.fov_y)
        for name in ("pixel_noise", "depth_noise", "jump_degrees", "jump_share"):
            if not getattr(self, name) > 0:
                raise ValueError(f"estimated.{name} must be above 0, found {getattr(self, name):g}")
        if self.min_points < 6:
            raise ValueError(f"estimated.min_points must be 6 or more, found {self.min_points}")


def build(config: Config) -> "EstimatedCamera":
    """The solver."""
    return EstimatedCamera(config)


class EstimatedCamera:
    """See ``pipeline.cameras.CameraSolver``."""

    needs_all_frames = True

    def __init__(self, config: Config):
        self.config = config

    def solve(self, view: CameraView, depth: DepthMaps) -> Cameras:
        """Intrinsics as known, or estimated; poses estimated, with the first frame's camera as the world.

        Raises:
            BadEpisode: ``no_background``, ``camera_jump``, or ``no_intrinsics`` if the clip does not determine them.
        """
        c, clip = self.config, Clip(view, depth)
        noise = Noise(c.pixel_noise, c.depth_noise)
        intrinsics, source = known_intrinsics(view, c.fov_y) or estimated_intrinsics(clip, noise)
        placed = Follower(clip, intrinsics, noise, c.min_points).place()
        poses = _bridged(refine(placed, intrinsics, noise), placed.blind)
        self._check_jumps(view.name, poses, float(np.nanmedian(depth.depth[0])))
        moved, residual = _pixels(placed, poses, intrinsics)
        moving = moved > STILL
        words = "stands still" if not moving else f"{len(placed.keys)} key frames, residual {residual:.2f} px"
        if moving and placed.blind:
            words += f", {len(placed.blind)} frames without depth placed between their neighbours"
        return Cameras(
            intrinsics=intrinsics,
            world_from_camera=poses if moving else np.tile(np.eye(4), (view.length, 1, 1)),
            size=view.size,
            moving=moving,
            intrinsics_source=source,
            pose_source=f"estimated from the background's tracks and depth: {words}; world = first camera",
        )

    def _check_jumps(self, name: str, poses: Float[np.ndarray, "T 4 4"], distance: float) -> None:
        steps = invert_pose(poses[:-1]) @ poses[1:]
        turned = np.degrees(
            2 * np.arcsin(np.minimum(np.linalg.norm(steps[:, :3, :3] - np.eye(3), axis=(1, 2)) / 8**0.5, 1))
        )
        moved = np.linalg.norm(steps[:, :3, 3], axis=1) / distance
        far = np.flatnonzero((turned > self.config.jump_degrees) | (moved > self.config.jump_share))
        if len(far):
            at = int(far[0])
            raise BadEpisode(
                "camera_jump",
                f"camera {name} turns by {turned[at]:.1f} degrees and moves by {moved[at]:.0%} of the scene's depth "
                f"from frame {at} to "
                f"frame {at + 1}; jump_degrees={self.config.jump_degrees:g} and "
                f"jump_share={self.config.jump_share:g} allow less",
            )


def _bridged(poses: Float[np.ndarray, "T 4 4"], blind: list[int]) -> Float[np.ndarray, "T 4 4"]:
    """The poses, with those of blind frames interpolated between their neighbours."""
    seen = np.setdiff1d(np.arange(len(poses)), blind)
    return poses_between(poses[seen], np.interp(np.arange(len(poses)), seen, np.arange(len(seen))))


def _pixels(
    placed: Placed, poses: Float[np.ndarray, "T 4 4"], intrinsics: Float[np.ndarray, "3 3"]
) -> tuple[float, float]:
    """Motion of the background in the image, in the frame where it is largest, and reprojection error of the poses;
    medians in px.
    """
    moved, off = [0.0], [np.zeros(0)]
    for link in placed.links:
        uvz = placed.points[link.key][link.points]
        pose = invert_pose(poses[link.frame]) @ poses[placed.keys[link.key]]
        there = project(transform(pose, lift(uvz, intrinsics)), intrinsics)[:, :2]
        if len(there):
            moved.append(float(np.nanmedian(np.linalg.norm(there - uvz[:, :2], axis=1))))
            off.append(np.linalg.norm(there - link.seen[:, :2], axis=1))
    return max(moved), float(np.nanmedian(np.concatenate(off))) if len(off) > 1 else 0.0
