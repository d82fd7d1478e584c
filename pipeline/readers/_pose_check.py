"""Checks a camera's pose before it is used: the robot's tool must project into the camera's picture.

A pose that is inverted, in other axes, or of another camera or episode puts the tool behind the camera or far outside
its picture. Flow computed with such a pose would be plausible but wrong everywhere.
"""

import numpy as np
from jaxtyping import Float

from schemas.cameras import invert_pose, project, transform

ENOUGH = 0.5
"""Share of frames in which the tool must be in view. A gripper leaves the picture at times; with a wrong pose it is
hardly ever in view.
"""

MOVED_M = 0.01
"""If the tool moves less than this, it cannot be decided whether a camera is mounted on it."""


def share_in_view(
    tool_xyz: Float[np.ndarray, "T 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_camera: Float[np.ndarray, "P 4 4"],
    size: tuple[int, int],
) -> float:
    """The share of frames in which a point of the robot lies in front of the camera and within its picture.

    Args:
        tool_xyz: the tool in the world, metres.
        world_from_camera: one pose, or one for each frame.
        size: (width, height) in pixels.
    """
    uvz = project(transform(invert_pose(world_from_camera), tool_xyz), intrinsics)
    with np.errstate(invalid="ignore"):
        inside = (uvz[:, :2] >= 0).all(1) & (uvz[:, 0] <= size[0]) & (uvz[:, 1] <= size[1])
    return float(inside.mean())


def pose_fault(
    tool_xyz: Float[np.ndarray, "T 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_camera: Float[np.ndarray, "P 4 4"],
    size: tuple[int, int],
) -> str | None:
    """Why a pose is refused, or None."""
    if not np.isfinite(world_from_camera).all():
        return "it holds a value that is not finite"
    share = share_in_view(tool_xyz, intrinsics, world_from_camera, size)
    if share >= ENOUGH:
        return None
    return f"with it the tool would be in view in {share:.0%} of the frames"


def mounted_on(tool_xyz: Float[np.ndarray, "T 3"], world_from_camera: Float[np.ndarray, "P 4 4"]) -> bool:
    """Whether a camera moves with the tool: the tool moves in the world but not in the camera's frame.

    Args:
        tool_xyz: the tool in the world, metres.
        world_from_camera: one pose, or one for each frame.
    """
    moved = np.ptp(tool_xyz, axis=0).max()
    moved_in_camera = np.ptp(transform(invert_pose(world_from_camera), tool_xyz), axis=0).max()
    return bool(moved > MOVED_M and moved_in_camera < 0.1 * moved)


def intrinsics_fault(intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> str | None:
    """Why intrinsics cannot be those of an ordinary camera with pictures of this size, or None."""
    (fx, _, cx), (_, fy, cy), _ = intrinsics
    width, height = size
    if not np.isfinite(intrinsics).all() or min(fx, fy) <= 0:
        return f"focal lengths {fx:g}, {fy:g} are not positive"
    if not (0.25 < cx / width < 0.75 and 0.25 < cy / height < 0.75):
        return f"the principal point {cx:.1f}, {cy:.1f} is far from the middle of {width} x {height}"
    if not 0.1 < fx / width < 10 or not 0.1 < fy / height < 10:
        return f"focal lengths {fx:.1f}, {fy:.1f} are absurd for {width} x {height}"
    return None
