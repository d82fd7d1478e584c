"""Pinhole cameras: all geometric conventions are defined here.

* Axes are OpenCV's: x right, y down, z forward along the optical axis.
* Image coordinates (u, v) are in pixels with the *centre* of the top left pixel at (0.5, 0.5), so an image of W x H
  covers [0, W] x [0, H] and resizing by s multiplies u, v, fx, fy, cx and cy by s.
* Depth is z along the optical axis, not distance along the ray.
* A pose is ``world_from_camera``: a 4 x 4 matrix that takes homogeneous camera coordinates to world coordinates.
* Images are upright and unmirrored when a camera is applied to them.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Cameras:
    """The camera of every frame of a clip.

    Attributes:
        intrinsics: 3 x 3 in pixels of the stored image, with zero skew.
        world_from_camera: one pose for each frame.
        size: (width, height) of the image in pixels.
        moving: whether the poses differ between frames.
        intrinsics_source: where the intrinsics come from, in words.
        pose_source: where the poses come from, in words.
    """

    intrinsics: Float[np.ndarray, "3 3"]
    world_from_camera: Float[np.ndarray, "T 4 4"]
    size: tuple[int, int]
    moving: bool
    intrinsics_source: str
    pose_source: str


def intrinsics_from_fov(fov_y_degrees: float, width: int, height: int) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a camera with square pixels and its axis in the middle, from its *vertical* field of view."""
    if not 0 < fov_y_degrees < 180:
        raise ValueError(f"a vertical field of view lies between 0 and 180 degrees, found {fov_y_degrees}")
    focal = height / 2 / math.tan(math.radians(fov_y_degrees) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def lift(uvz: Float[np.ndarray, "*n 3"], intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "*n 3"]:
    """Pixels and depth (u px, v px, z) to points (x, y, z) in the camera, in the unit of z."""
    k = intrinsics
    z = uvz[..., 2]
    x = (uvz[..., 0] - k[0, 2]) / k[0, 0] * z
    y = (uvz[..., 1] - k[1, 2]) / k[1, 1] * z
    return np.stack([x, y, z], axis=-1)


def project(xyz: Float[np.ndarray, "*n 3"], intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "*n 3"]:
    """Points in the camera to (u px, v px, z); a point that is not in front (z <= 0) gets NaN."""
    k = intrinsics
    z = np.where(xyz[..., 2] > 0, xyz[..., 2], np.nan)
    return np.stack([xyz[..., 0] / z * k[0, 0] + k[0, 2], xyz[..., 1] / z * k[1, 1] + k[1, 2], z], axis=-1)


def flipped_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], columns: bool, rows: bool
) -> Float[np.ndarray, "3 3"]:
    """Intrinsics for the image with its columns or rows in reverse order. A point that is lifted with them has the
    opposite x or y in the camera.

    Args:
        size: (width, height) of its image, in pixels.
    """
    turned = intrinsics.copy()
    for axis, reverse in enumerate((columns, rows)):
        if reverse:
            turned[axis, 2] = size[axis] - intrinsics[axis, 2]
    return turned


def transform(pose: Float[np.ndarray, "*b 4 4"], xyz: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*broadcast 3"]:
    """Apply rigid poses to points; leading dimensions broadcast as in matmul:
    pose [T, 4, 4] goes with xyz [K, T, 3].
    """
    return np.einsum("...ij,...j->...i", pose[..., :3, :3], xyz) + pose[..., :3, 3]


def invert_pose(pose: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 4 4"]:
    """The inverse of rigid poses: ``camera_from_world`` of ``world_from_camera``."""
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, pose[..., :3, 3])
    inverse[..., 3, 3] = 1
    return inverse


def pose_from_quaternion(position: Float[np.ndarray, " 3"], quaternion_wxyz: Float[np.ndarray, " 4"]) -> np.ndarray:
    """A 4 x 4 pose from a position and a quaternion, real part first; the quaternion need not have length 1."""
    w, x, y, z = quaternion_wxyz / np.linalg.norm(quaternion_wxyz)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = position
    return pose


def pose_from_mujoco(position: Float[np.ndarray, " 3"], quaternion_wxyz: Float[np.ndarray, " 4"]) -> np.ndarray:
    """``world_from_camera`` of a MuJoCo camera, whose own axes are OpenGL's (y up, looking along -z)."""
    pose = pose_from_quaternion(position, quaternion_wxyz)
    pose[:3, :3] = pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    return pose
