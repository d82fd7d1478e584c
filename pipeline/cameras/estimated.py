"""A moving camera without recorded poses: they are estimated from tracks and depth of the background.

Corners of key frames are tracked through the clip (``_keyframe_tracking``). Each frame gets the rigid motion that fits
the largest area of the world, so moving things and a gripper fixed to the camera are left out (``_ransac_pose``).
Finally all poses are refined together (``_bundle_adjustment``). Depth must keep its scale over the episode; the poses'
unit is the depth's.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from pipeline.cameras._bundle_adjustment import refine
from pipeline.cameras._clip import Clip
from pipeline.cameras._focal_search import estimated_intrinsics
from pipeline.cameras._held_out import FEWEST, held_out, pairs_along, stands_still
from pipeline.cameras._intrinsics import check_fov, known_intrinsics
from pipeline.cameras._keyframe_tracking import Follower, Placed
from pipeline.cameras._ransac_pose import AGREES, Noise
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
        min_explained: share of the background, by area, that the poses must explain in every pair of frames tested, of
            points that they were not fitted to; below it, unexplained_scene. None not to test.
    """

    fov_y: float | None = None
    pixel_noise: float = 0.5
    depth_noise: float = 0.01
    min_points: int = 16
    jump_degrees: float = 15.0
    jump_share: float = 0.25
    min_explained: float | None = 0.6

    def __post_init__(self) -> None:
        check_fov("estimated", self.fov_y)
        for name in ("pixel_noise", "depth_noise", "jump_degrees", "jump_share"):
            if not getattr(self, name) > 0:
                raise ValueError(f"estimated.{name} must be above 0, found {getattr(self, name):g}")
        if self.min_explained is not None and not 0 < self.min_explained <= 1:
            raise ValueError(f"estimated.min_explained must be above 0 and at most 1, found {self.min_explained:g}")
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
            BadEpisode: ``no_background``, ``camera_jump``, ``unexplained_scene``, or ``no_intrinsics`` if the clip does
                not determine them.
        """
        c, clip = self.config, Clip(view, depth)
        noise = Noise(c.pixel_noise, c.depth_noise)
        intrinsics, source = known_intrinsics(view, c.fov_y) or estimated_intrinsics(clip, noise)
        placed = Follower(clip, intrinsics, noise, c.min_points).place()
        poses = _bridged(refine(placed, intrinsics, noise), placed.blind)
        self._check_jumps(view.name, poses, float(np.nanmedian(depth.depth[0])))
        found = Cameras(intrinsics, poses, view.size, True, source, "")
        moved, residual = _pixels(placed, poses, intrinsics)
        if moved <= STILL or stands_still(clip, found, self._depth_error):
            found = replace(found, world_from_camera=np.tile(np.eye(4), (view.length, 1, 1)), moving=False)
        words = f"{len(placed.keys)} key frames, residual {residual:.2f} px" if found.moving else "stands still"
        if found.moving and placed.blind:
            words += f", {len(placed.blind)} frames without depth placed between their neighbours"
        if c.min_explained is not None:
            words += self._check_held_out(clip, found, c.min_explained)
        return replace(
            found, pose_source=f"estimated from the background's tracks and depth: {words}; world = first camera"
        )

    @property
    def _depth_error(self) -> float:
        return AGREES * self.config.depth_noise

    def _check_held_out(self, clip: Clip, cameras: Cameras, least: float) -> str:
        """Refuse poses that do not explain what they were not fitted to; returns how well they do, in words."""
        held = held_out(clip, cameras, self._depth_error, pairs_along(clip.length))
        if not held and cameras.moving:
            raise BadEpisode(
                "unexplained_scene",
                f"camera {clip.name} moves, and no two frames have {FEWEST} points in common to test its estimated "
                "poses with; use --camera recorded where poses were recorded",
            )
        worst = min(held, key=lambda pair: pair.explained, default=None)
        if worst is not None and worst.explained < least:
            raise BadEpisode(
                "unexplained_scene",
                f"camera {clip.name}: from frame {worst.first} to frame {worst.second} the estimated poses explain "
                f"{worst.explained:.0%} of the background that they were not fitted to, at least {least:.0%} is "
                "expected (estimated.min_explained); use --camera recorded where poses were recorded, or --camera "
                "static if the camera stands still",
            )
        return "" if worst is None else f", explains {worst.explained:.0%} or more of points not used"

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
