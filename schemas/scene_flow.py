"""Dense 3D scene flow: the label that the data factory makes and the Motion Expert learns.

A grid of keypoints on the reference image (frame t) is followed over the next T steps; every position is expressed in
the camera of frame t (LaMP, arXiv 2603.25399). Coordinates are (u, v, z): u and v divided by the image's width and
height, so that the image is the unit square, and z the depth along the reference camera's axis, in metres unless the
triplet says "relative".
"""

from dataclasses import dataclass
from enum import IntFlag
from math import isqrt

import numpy as np
from jaxtyping import Bool, Float, UInt8

from schemas.flips import flipped
from schemas.flow_size import GRID as GRID
from schemas.flow_size import HORIZON as HORIZON

MOTION_SCALE = (0.05, 0.05, 0.04)
"""Published normalisation: an increment (du, dv, dz) divided by this lies in [-1, 1]."""
MOVES = 0.005
"""A point moves when it gets farther than this from its reference position in space: metres, or, where depth is
relative, medians of the episode's depth. Quality checks, pictures, evaluation and training all use this definition.
"""


class PointFlag(IntFlag):
    """Findings of the quality checks about one keypoint's trajectory; stored in the sample."""

    STATIC = 1  # below the static thresholds: its displacement was set to exactly zero
    LOST = 2  # the tracker lost it at some step
    DEPTH_HOLE = 4  # no usable depth at some visible step
    DEPTH_EDGE = 8  # it crossed a depth discontinuity at some visible step
    JUMP = 16  # it moved farther in one step than is plausible
    CARRIED = 32  # at some step its position was set from its neighbours' rigid motion, in agreement with depth
    JOINTS = 64  # it lies on the robot, and its positions are those of the recorded joints


@dataclass(frozen=True)
class SceneFlow:
    """Trajectories of K keypoints over steps 0..T in the reference camera.

    Attributes:
        uvz: u / width, v / height, depth. Where ``valid`` is false the value repeats the last valid one and
            must not be used. K is 0 and T is 0 where no flow was measured (``no_flow``).
        visible: the point is seen in that step's image.
        valid: the position may be used: its depth is known, its track trusted, and the step lies within the episode.
    """

    uvz: Float[np.ndarray, "K S 3"]
    visible: Bool[np.ndarray, "K S"]
    valid: Bool[np.ndarray, "K S"]

    @property
    def horizon(self) -> int:
        """T, the number of steps after the reference frame."""
        return self.uvz.shape[1] - 1

    def increments(self, seen_only: bool = False) -> tuple[Float[np.ndarray, "K T 3"], Bool[np.ndarray, "K T"]]:
        """(du, dv, dz) of each step, and whether both of its ends are valid; zero where they are not.

        Args:
            seen_only: both ends must also be visible. Trackers give visible positions only; an exact source also gives
                those of occluded points.
        """
        usable = self.valid & self.visible if seen_only else self.valid
        mask = usable[:, 1:] & usable[:, :-1]
        return np.where(mask[..., None], np.diff(self.uvz, axis=1), 0), mask

    def flipped(self, columns: bool, rows: bool) -> "SceneFlow":
        """The flow in the image with its columns or rows in reverse order, or both (which is a rotation by 180
        degrees). The row-by-row order of a square keypoint grid is kept.
        """
        side = isqrt(len(self.uvz))
        order = flipped(np.arange(len(self.uvz)).reshape(side, -1), columns, rows).ravel()
        uvz = self.uvz[order]
        for axis, reverse in enumerate((columns, rows)):
            if reverse:
                uvz[..., axis] = 1 - uvz[..., axis]
        return SceneFlow(uvz, self.visible[order], self.valid[order])

    def at(self, steps: Float[np.ndarray, " N"]) -> "SceneFlow":
        """The flow at other times, given in steps and fractions of steps, 0..T.

        Between two steps a position is linear in space, which is exact for a point of constant velocity: (u z, v z, z)
        is a linear image of the point, whatever the intrinsics. It is visible or valid only if it is so at both steps.
        """
        lower, upper = np.floor(steps).astype(int), np.ceil(steps).astype(int)
        visible, valid = (which[:, lower] & which[:, upper] for which in (self.visible, self.valid))
        share = (steps - lower)[:, None]
        rays = np.concatenate([self.uvz[..., :2] * self.uvz[..., 2:], self.uvz[..., 2:]], axis=-1)
        mixed = (1 - share) * rays[:, lower] + share * rays[:, upper]
        z = np.where(valid, mixed[..., 2], 1)[..., None]
        between = np.where(valid[..., None], np.concatenate([mixed[..., :2] / z, z], axis=-1), 0)
        # At a whole step, the stored position bit for bit.
        return SceneFlow(np.where((lower == upper)[:, None], self.uvz[:, lower], between), visible, valid)


def no_flow() -> SceneFlow:
    """The flow of a window in which none was measured: no keypoint, no step after the reference frame."""
    return SceneFlow(np.zeros((0, 1, 3), np.float32), np.zeros((0, 1), bool), np.zeros((0, 1), bool))


def keypoint_grid(width: int, height: int, grid: int = GRID) -> Float[np.ndarray, "K 2"]:
    """Keypoints in pixels of an image, row by row: K = grid * grid.

    Each is the centre of the pixel in which the middle of its grid cell lies, so that its depth is a stored value and
    not an interpolated one.
    """
    u = np.floor((np.arange(grid) + 0.5) * width / grid) + 0.5
    v = np.floor((np.arange(grid) + 0.5) * height / grid) + 0.5
    return np.stack(np.meshgrid(u, v, indexing="xy"), axis=-1).reshape(-1, 2)


def moving_points(xyz: Float[np.ndarray, "K S 3"], usable: Bool[np.ndarray, "K S"]) -> Bool[np.ndarray, " K"]:
    """Which keypoints move farther than ``MOVES`` from their reference position at any usable step.

    Args:
        xyz: positions in space, metres or medians of the depth, in one camera.
        usable: the position may be used; a point without a reference position is never usable.
    """
    return np.where(usable, np.linalg.norm(xyz - xyz[:, :1], axis=-1), 0).max(axis=1) > MOVES


def flag_names(flags: UInt8[np.ndarray, " K"]) -> dict[str, int]:
    """Number of keypoints with each flag."""
    return {flag.name.lower(): int(np.count_nonzero(flags & flag)) for flag in PointFlag if flag.name}
