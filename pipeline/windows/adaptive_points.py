"""Keypoints that are denser where things move: chosen from the picture and depth of a window, and nothing else.

Three things attract points: *motion energy*, how much the later frames differ from what they would show if nothing
moved; the *depth edges* of the reference frame, beside which objects begin; and the whole picture, a little, so that
the background is never without points. The camera's own motion is taken out: every pixel is compared with the place
where that frame's camera would see it.

The choice is deterministic. The picture is split again and again into two rectangles that hold half of the density
each; every last rectangle gets one point, the pixel in the middle of its density. So points keep their distances, and
no two are at one pixel.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from schemas.cameras import Cameras, invert_pose, lift, project, transform

FRAMES = 6
"""Later frames, evenly spread over the window, that are compared with the reference frame."""
CHANGED = 20.0
"""Grey levels of change from which a pixel has clearly changed."""
COVERED = 0.02
"""Share of depth by which something nearer hides a place: that it looks different then is no motion of its own."""
SPREAD = 0.012
"""Blur of what attracts points, as a share of the image's width."""
EVERYWHERE, MOTION, EDGES = 0.06, 1.0, 0.15
"""Density of points in the whole picture, where something moved, and beside depth edges."""


@dataclass(frozen=True)
class WindowView:
    """What the choice is made from, of the reference frame and the frames after it.

    Attributes:
        grey: frames 0..T of the window; there may be fewer at the episode's end.
        depth: of the same frames, NaN where unknown.
        edges: depth discontinuities of the reference frame (``pipeline.vision.lift.depth_edges``).
        cameras: of the same frames.
    """

    grey: UInt8[np.ndarray, "S H W"]
    depth: Float[np.ndarray, "S H W"]
    edges: Bool[np.ndarray, "H W"]
    cameras: Cameras


def adaptive_points(view: WindowView, count: int) -> Float[np.ndarray, "K 2"]:
    """``count`` keypoints on the reference frame, in px, each the centre of a pixel, sorted by row and column.

    A picture in which fewer pixels have depth gives points without depth too; one of fewer pixels gives fewer points.
    """
    wanted = density(view)
    return _spread_points(wanted, min(count, wanted.size))


def density(view: WindowView) -> Float[np.ndarray, "H W"]:
    """How densely points are wanted; nowhere zero, and next to nothing where there is no depth or on a depth edge, from
    which a point could be lifted to either side.
    """
    import cv2

    width = view.grey.shape[2]
    blur = max(SPREAD * width, 0.8)
    moving = cv2.GaussianBlur(motion_energy(view), (0, 0), blur)
    beside = np.minimum(4 * cv2.GaussianBlur(view.edges.astype(np.float32), (0, 0), blur), 1)
    wanted = EVERYWHERE + MOTION * moving + EDGES * beside
    useless = view.edges | ~np.isfinite(view.depth[0])
    return np.where(useless, 1e-6, wanted).astype(np.float64)


def motion_energy(view: WindowView) -> Float[np.ndarray, "H W"]:
    """Share of the later frames, 0 to 1, in which each pixel of the reference frame has changed although nothing nearer
    hides it.
    """
    import cv2

    energy = np.zeros(view.grey.shape[1:], np.float32)
    first = cv2.GaussianBlur(view.grey[0], (0, 0), 1).astype(np.float32)
    steps = np.unique(np.linspace(0, len(view.grey) - 1, FRAMES + 1).round().astype(int))[1:]
    for step in steps:
        now, depth, z = cv2.GaussianBlur(view.grey[step], (0, 0), 1), view.depth[step], view.depth[0]
        if view.cameras.moving:
            expected = _expected(view, int(step))
            u, v = (np.asarray(np.nan_to_num(expected[..., axis], nan=-9) - 0.5, np.float32) for axis in (0, 1))
            z = expected[..., 2]
            depth = cv2.remap(np.asarray(depth, np.float32), u, v, cv2.INTER_NEAREST, borderValue=float("-inf"))
            now = cv2.remap(now, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        change = np.minimum(np.abs(now.astype(np.float32) - first) / CHANGED, 1)
        with np.errstate(invalid="ignore"):
            hidden = depth < (1 - COVERED) * z  # outside the picture, too
        energy += np.where(hidden, 0, change).astype(np.float32) / len(steps)
    return energy


def _expected(view: WindowView, step: int) -> Float[np.ndarray, "H W 3"]:
    """Where each pixel of the reference frame would be seen at a step, and how deep, if it stood still."""
    height, width = view.grey.shape[1:]
    pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    poses = view.cameras.world_from_camera
    there = transform(
        invert_pose(poses[step]) @ poses[0],
        lift(np.concatenate([pixels, view.depth[0][..., None]], axis=-1), view.cameras.intrinsics),
    )
    return project(there, view.cameras.intrinsics)


def _spread_points(wanted: Float[np.ndarray, "H W"], count: int) -> Float[np.ndarray, "K 2"]:
    """One point in each of ``count`` rectangles that hold the same share of the density."""
    found: list[tuple[int, int]] = []
    waiting = [(0, wanted.shape[0], 0, wanted.shape[1], count)]
    while waiting:
        top, bottom, left, right, points = waiting.pop()
        part = wanted[top:bottom, left:right]
        if points == 1:
            found.append((top + _middle(part.sum(axis=1)), left + _middle(part.sum(axis=0))))
            continue
        rows = bottom - top >= right - left
        one, length, across = points // 2, *(part.shape if rows else part.shape[::-1])
        mass = np.cumsum(part.sum(axis=1 if rows else 0))
        cut = min(max(int(np.searchsorted(mass, mass[-1] * one / points)) + 1, 1), length - 1)
        # Each side must hold a pixel for each of its points.
        one = min(max(one, points - (length - cut) * across), cut * across)
        if rows:
            waiting += [(top, top + cut, left, right, one), (top + cut, bottom, left, right, points - one)]
        else:
            waiting += [(top, bottom, left, left + cut, one), (top, bottom, left + cut, right, points - one)]
    return np.array([(column + 0.5, row + 0.5) for row, column in sorted(found)])


def _middle(mass: Float[np.ndarray, " N"]) -> int:
    """The place at which half of the mass is reached."""
    total = np.cumsum(mass)
    return int(np.searchsorted(total, total[-1] / 2))
