"""One frame seen from another frame's pose, by that frame's depth, as if nothing moved but the camera."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from schemas.cameras import Cameras, invert_pose


@dataclass(frozen=True)
class Reprojection:
    """Where the pixels of one frame are in another.

    Attributes:
        place: as ``cv2.remap`` wants it (pixel centres at whole numbers).
        factor: depth there over depth here.
        inside: in front of the camera and inside the picture.
    """

    place: Float[np.ndarray, "H W 2"]
    factor: Float[np.ndarray, "H W"]
    inside: Bool[np.ndarray, "H W"]

    def drawn(self, other: np.ndarray, nearest: bool = False, outside: float = 0.0) -> np.ndarray:
        """What the other frame's picture or depth, [H, W], shows at these places: bilinear, or of the nearest pixel."""
        import cv2

        how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        # An empty second map, which cv2's stub asks for, makes OpenCV 5.0 read one channel at wrong places.
        return cv2.remap(other, self.place, None, how, borderValue=outside)  # pyright: ignore[reportCallIssue, reportArgumentType]


def seen_from(depth: Float[np.ndarray, "H W"], cameras: Cameras, frame: int, other: int) -> Reprojection:
    """Where a frame's pixels are in another frame if nothing moves.

    Args:
        depth: of the frame; NaN where unknown.
        cameras: of all frames.
        frame: its number.
        other: the other frame's number.
    """
    k = cameras.intrinsics
    poses = cameras.world_from_camera
    pose = invert_pose(poses[other]) @ poses[frame]
    height, width = depth.shape
    x = ((np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]).astype(np.float32)
    y = ((np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]).astype(np.float32)[:, None]
    turn, shift = pose[:3, :3].astype(np.float32), pose[:3, 3].astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        there = [turn[i, 0] * x + turn[i, 1] * y + turn[i, 2] + shift[i] / depth for i in range(3)]
        u = there[0] / there[2] * np.float32(k[0, 0]) + np.float32(k[0, 2])
        v = there[1] / there[2] * np.float32(k[1, 1]) + np.float32(k[1, 2])
        inside = (there[2] > 0) & (u >= 1) & (v >= 1) & (u < width - 1) & (v < height - 1)
    place = np.stack([np.where(inside, u, 0.5), np.where(inside, v, 0.5)], axis=-1) - np.float32(0.5)
    return Reprojection(place, there[2], inside)
