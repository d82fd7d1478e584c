"""A static camera: one pose for all frames and the dataset's intrinsics; checks that the camera does not move."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from pipeline.cameras._corners import area_weights, corners, weighted_quantile
from pipeline.cameras._intrinsics import check_fov, known_intrinsics
from pipeline.vision.lucas_kanade import Matching, match
from schemas.cameras import Cameras
from schemas.episode import BadEpisode, CameraView
from schemas.perception import DepthMaps

LOOKS = 6
"""Frames, evenly spread, that are compared with the first ..."""
JOLTS = 2
"""... and those after the largest changes: a camera that was knocked may be back in its place a moment later.
"""
FEWEST = 24
"""Smallest number of corners with which the check is made."""
STILLEST = 0.25
"""Share of the background, by area, that stands still if the camera does: a drawer that is pushed may be most of the
picture.
"""
DARKEST = 4.0
"""Grey levels by which a picture must vary to be compared."""
FOUND_AGAIN = 0.15
"""Share of the background, by area, that half of the other frames must show where it was; a fixed camera keeps far
more.
"""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        fov_y: vertical field of view in degrees, for datasets that give no intrinsics; None to refuse those.
        max_motion: the camera counts as moving if even the stillest quarter of the scene, by its area in the world,
            moves by more than this share of the image's width between the first frame and another; None not to check.
    """

    fov_y: float | None = None
    max_motion: float | None = 0.006

    def __post_init__(self) -> None:
        check_fov("static", self.fov_y)
        if self.max_motion is not None and self.max_motion <= 0:
            raise ValueError(f"static.max_motion must be above 0, or none not to check, found {self.max_motion:g}")


def build(config: Config) -> "StaticCamera":
    """The solver."""
    return StaticCamera(config)


class StaticCamera:
    """See ``pipeline.cameras.CameraSolver``."""

    needs_all_frames = False

    def __init__(self, config: Config):
        self.config = config

    def solve(self, view: CameraView, depth: DepthMaps) -> Cameras:
        """The view's intrinsics and its pose in every frame; the world is the camera's own frame where no pose is
        known.

        Raises:
            BadEpisode: the camera moves, according to the dataset or its pictures, or has no intrinsics.
        """
        if not view.fixed:
            raise BadEpisode(
                "moving_camera",
                f"camera {view.name} moves; --camera static is for cameras that stand still, --camera estimated for "
                "others",
            )
        known = known_intrinsics(view, self.config.fov_y)
        if known is None:
            raise BadEpisode(
                "no_intrinsics",
                f"camera {view.name} has no intrinsics; give its vertical field of view with --camera-options "
                "fov_y=DEGREES",
            )
        intrinsics, source = known
        checked = ""
        if self.config.max_motion is not None:
            checked = (
                ", checked" if check_stillness(view, depth, self.config.max_motion) else ", too bare to be checked"
            )
        pose, pose_source = np.eye(4), f"static{checked}; world = camera"
        if view.world_from_camera is not None:
            pose, pose_source = view.world_from_camera[0], f"static{checked}; {view.pose_source}"
        return Cameras(
            intrinsics=intrinsics,
            world_from_camera=np.tile(pose, (view.length, 1, 1)),
            size=view.size,
            moving=False,
            intrinsics_source=source,
            pose_source=pose_source,
        )


def check_stillness(view: CameraView, depth: DepthMaps, max_motion: float) -> bool:
    """Check in the pictures that the camera stands still; returns whether the check was possible.

    Corners of the first frame are matched in a few others: some evenly spread, and those with the largest change from
    the frame before. Each corner is weighted by the area of the world that it shows, so that neither a robot moving in
    front of the camera nor a gripper fixed to it has the majority.

    Args:
        view: whose frames are compared.
        depth: of its frames.
        max_motion: see ``Config``.

    Raises:
        BadEpisode: ``moving_camera``, with the motion that was measured.
    """
    import cv2

    first = cv2.cvtColor(view.frames[0], cv2.COLOR_RGB2GRAY)
    start = corners(first)
    column, row = np.floor(start).astype(int).T
    z = depth.depth[0, row, column].astype(np.float64)
    start, weights = start[np.isfinite(z)], area_weights(z[np.isfinite(z)])
    if len(start) < FEWEST:
        return False
    limit = max_motion * view.size[0]
    evenly = np.linspace(0, view.length - 1, LOOKS + 1).round().astype(int)
    shares = []
    for frame in np.unique([*evenly, *_jolts(view.frames)])[1:]:
        picture = cv2.cvtColor(view.frames[frame], cv2.COLOR_RGB2GRAY)
        if picture.std() < DARKEST:
            continue
        moved, found = match(first, _exposed_like(first, picture), start, Matching())
        shares.append(float(weights[found].sum()))
        if found.sum() < FEWEST // 2:
            continue
        away = np.linalg.norm(moved - start, axis=1)[found]
        least = weighted_quantile(away, weights[found], STILLEST)
        if least > limit:
            raise _moves(
                view,
                f"from frame 0 to frame {frame} {1 - STILLEST:.0%} of the background moved by at least {least:.1f} "
                f"px, more than the {limit:.1f} px that "
                f"static.max_motion={max_motion:g} allows",
            )
    if shares and np.median(shares) < FOUND_AGAIN:
        raise _moves(
            view, f"only {np.median(shares):.0%} of the background of its first frame is found again in others"
        )
    return bool(shares)


def _jolts(frames: UInt8[np.ndarray, "T H W 3"]) -> Int[np.ndarray, " N"]:
    """The frames that differ most from the ones before them, compared at every eighth pixel of every eighth row."""
    few = frames[:, ::8, ::8, 1].astype(np.int16)
    change = np.abs(np.diff(few, axis=0)).mean(axis=(1, 2))
    return 1 + np.argsort(change)[-JOLTS:]


def _moves(view: CameraView, what: str) -> BadEpisode:
    return BadEpisode(
        "moving_camera",
        f"camera {view.name} is said to stand still, but {what}; --camera estimated is for cameras that move",
    )


def _exposed_like(model: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A grey picture with the mean and contrast of another, so that a change of exposure does not count as motion."""
    gain = model.std() / max(float(picture.std()), 1.0)
    level = (picture.astype(np.float32) - picture.mean()) * gain + model.mean()
    return np.clip(np.rint(level), 0, 255).astype(np.uint8)
