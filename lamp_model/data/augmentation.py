"""Random changes of training samples: a crop, which moves images, keypoints, motion and intrinsics together, and
colour, which changes pixels only.

What is drawn is a pure function of (seed, epoch, position in the epoch), which step and place in the global batch
decide, so neither the number of processes nor the micro-batch changes it. Held-out samples are never changed.

The Motion Expert knows a keypoint by its place in the grid and not by coordinates. So a crop does not only move the
keypoints: the motion is given again at the grid of the cropped image. Points there are interpolated between the
stored keypoints around them, in space and only within a rigid surface; where that is not possible, the motion is
masked out of the loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageEnhance

from schemas.cameras import lift
from schemas.scene_flow import MOVES, SceneFlow, keypoint_grid

STREAM = 4
"""Tells these random numbers from the others of a run (``lamp_model.training.rng.Purpose``)."""
SURFACE = 0.03
"""Share of the depth by which two adjacent keypoints may leave the line of their neighbours on a surface."""
ON_KEYPOINT = 1e-6
"""Share of the distance between two keypoints; a point closer to one than this is that keypoint."""


@dataclass(frozen=True)
class Crop:
    """The part of an image that is kept and enlarged to the size of the image.

    Attributes:
        left, top: its corner, in the unit square.
        share: of each side that is kept.
    """

    left: float
    top: float
    share: float

    def image(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The kept part, at the size of the image (bicubic)."""
        height, width = image.shape[:2]
        right, bottom = self.left + self.share, self.top + self.share
        box = (self.left * width, self.top * height, min(right, 1) * width, min(bottom, 1) * height)
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box=box))

    def moved(self, uvz: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Positions (unit square, depth) in the cropped image. Points and camera are the same, so is the depth."""
        return (uvz - np.array([self.left, self.top, 0])) / np.array([self.share, self.share, 1])

    def intrinsics(self, intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
        """Intrinsics of the cropped image.

        Args:
            size: (width, height) of the image in pixels, before and after.
        """
        made = intrinsics.copy()
        made[0, 2] -= self.left * size[0]
        made[1, 2] -= self.top * size[1]
        made[:2] /= self.share
        return made

    def flow(self, flow: SceneFlow, intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> SceneFlow:
        """The motion at the keypoint grid of the cropped image.

        Args:
            flow: of a square grid of keypoints, row by row (``schemas.scene_flow.keypoint_grid``).
            intrinsics, size: of the whole image.
        """
        grid = isqrt(flow.uvz.shape[0])
        asked = keypoint_grid(*size, grid) / size * self.share + [self.left, self.top]
        around, weights, inside = _neighbours(asked, keypoint_grid(*size, grid) / size, grid)
        used = weights > 0
        usable = _together(flow, around, used, intrinsics, size) & inside[:, None]
        uvz = _mixed(flow, around, weights, usable)
        still = np.concatenate([asked, np.ones((len(asked), 1))], axis=1)[:, None]
        uvz = self.moved(np.where(usable[..., None], uvz, still)).astype(flow.uvz.dtype)
        visible = np.repeat(inside[:, None], flow.uvz.shape[1], axis=1)
        for number in range(4):
            visible &= flow.visible[around[:, number]] | ~used[:, number, None]
        return SceneFlow(uvz, visible, usable)


@dataclass(frozen=True)
class Colour:
    """Factors of brightness, contrast and saturation; 1 changes nothing."""

    brightness: float
    contrast: float
    saturation: float

    def image(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The changed image."""
        picture = Image.fromarray(image)
        for change, factor in (
            (ImageEnhance.Brightness, self.brightness),
            (ImageEnhance.Contrast, self.contrast),
            (ImageEnhance.Color, self.saturation),
        ):
            picture = change(picture).enhance(factor)
        return np.array(picture)


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for a sample.

    Attributes:
        crops: by camera role; each camera has its own.
        colour: of all images alike, as light is.
    """

    crops: Mapping[str, Crop]
    colour: Colour | None

    def image(self, role: str, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The changed image of a camera."""
        if role in self.crops:
            image = self.crops[role].image(image)
        return image if self.colour is None else self.colour.image(image)


@dataclass(frozen=True)
class Augmenter:
    """Draws changes.

    Attributes:
        crop: largest share of each side that is cropped.
        colour: largest change of a factor of ``Colour``.
        roles: of the cameras.
    """

    seed: int
    crop: float
    colour: float
    roles: tuple[str, ...]

    def draw(self, epoch: int, position: int) -> Augmentation:
        """The changes of a sample by its position in an epoch."""
        chance = np.random.default_rng([self.seed, epoch, position, STREAM])
        crops = {}
        for role in self.roles if self.crop else ():
            share = 1 - self.crop * chance.random()
            left, top = ((1 - share) * chance.random(2)).tolist()
            crops[role] = Crop(left, top, share)
        factors = 1 + self.colour * chance.uniform(-1, 1, 3)
        return Augmentation(crops, Colour(*factors.tolist()) if self.colour else None)


def _neighbours(
    points: Float[np.ndarray, "K 2"], nodes: Float[np.ndarray, "K 2"], grid: int
) -> tuple[Int[np.ndarray, "K 4"], Float[np.ndarray, "K 4"], Bool[np.ndarray, " K"]]:
    """For each point the four keypoints around it, their bilinear weights, and whether it lies within the grid."""
    lower, share, inside = [], [], np.ones(len(points), bool)
    for axis, places in enumerate((nodes[:grid, 0], nodes[::grid, 1])):
        if grid == 1:
            places = np.array([places[0], places[0] + 1])
        at = np.clip(np.searchsorted(places, points[:, axis], side="right") - 1, 0, len(places) - 2)
        far = (points[:, axis] - places[at]) / (places[at + 1] - places[at])
        far = np.where(np.abs(far - far.round()) < ON_KEYPOINT, far.round(), far)
        inside &= (far >= 0) & (far <= 1)
        lower.append(at)
        share.append(np.clip(far, 0, 1))
    (u, v), (right, down) = lower, share
    step_u, step_v = min(1, grid - 1), min(1, grid - 1) * grid
    first = v * grid + u
    around = np.stack([first, first + step_u, first + step_v, first + step_u + step_v], axis=1)
    weights = np.stack([(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down], axis=1)
    return around, weights, inside


def _together(
    flow: SceneFlow,
    around: Int[np.ndarray, "K 4"],
    used: Bool[np.ndarray, "K 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> Bool[np.ndarray, "K S"]:
    """Where a point can be interpolated: all used keypoints are valid at the step and at the first one, lie on one
    surface and keep their distances."""
    grid, steps = isqrt(flow.uvz.shape[0]), flow.uvz.shape[1]
    xyz = lift(flow.uvz * np.array([*size, 1], np.float32), intrinsics.astype(np.float32))
    depth = np.where(flow.valid[:, 0], flow.uvz[:, 0, 2], np.nan)
    right, down, falling, rising = _bonds(xyz.reshape(grid, grid, steps, 3), depth.reshape(grid, grid))
    good = flow.valid[around[:, 0]] | ~used[:, 0, None]
    for number in range(1, 4):
        good &= flow.valid[around[:, number]] | ~used[:, number, None]
    good &= good[:, :1]
    upper_left, upper_right, lower_left, _ = around.T
    for bonds, at, pair in (
        (right, upper_left, (0, 1)),
        (right, lower_left, (2, 3)),
        (down, upper_left, (0, 2)),
        (down, upper_right, (1, 3)),
        (falling, upper_left, (0, 3)),
        (rising, upper_left, (1, 2)),
    ):
        good &= bonds[at] | ~np.all(used[:, pair], axis=1)[:, None]
    return good


def _bonds(xyz: Float[np.ndarray, "G G S 3"], depth: Float[np.ndarray, "G G"]) -> list[Bool[np.ndarray, "K S"]]:
    """Whether two adjacent keypoints move as one body and lie on one surface, by the upper left of them, or of the
    four of a diagonal: to the right, down, down right, and from the right one down left."""

    def kept(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        apart = one - other
        length = np.sqrt(np.einsum("...i,...i", apart, apart))
        return np.abs(length - length[..., :1]) <= MOVES

    found = [
        kept(xyz[:, :-1], xyz[:, 1:]) & _on_surface(depth)[..., None],
        kept(xyz[:-1], xyz[1:]) & _on_surface(depth.T).T[..., None],
        kept(xyz[:-1, :-1], xyz[1:, 1:]),
        kept(xyz[:-1, 1:], xyz[1:, :-1]),
    ]
    grid, steps = xyz.shape[0], xyz.shape[2]
    padded = [np.pad(one, ((0, grid - one.shape[0]), (0, grid - one.shape[1]), (0, 0))) for one in found]
    return [one.reshape(grid * grid, steps) for one in padded]


def _on_surface(depth: Float[np.ndarray, "G G"]) -> Bool[np.ndarray, "G G-1"]:
    """Whether a keypoint and the next one of its row lie on one surface: along a row, 1 / z of a plane is linear, so
    its step from one to the next is about that before them or after them; at an edge it is neither. Small steps pass.
    """
    near = 1 / depth
    step = np.diff(near, axis=1)
    most = SURFACE * np.minimum(near[:, :-1], near[:, 1:])
    found = np.abs(step) <= most
    bend = np.abs(np.diff(step, axis=1))
    found[:, 1:] |= bend <= most[:, 1:]
    found[:, :-1] |= bend <= most[:, :-1]
    return found


def _mixed(
    flow: SceneFlow, around: Int[np.ndarray, "K 4"], weights: Float[np.ndarray, "K 4"], usable: Bool[np.ndarray, "K S"]
) -> Float[np.ndarray, "K S 3"]:
    """The weighted mean in space of the four keypoints; undefined where it is not usable. (u z, v z, z) is a linear
    image of a point; with weights over the first depth the mean projects to exactly the asked place, and on a plane it
    lies on the plane."""
    z = flow.uvz[..., 2:].astype(np.float64)
    rays = np.concatenate([flow.uvz[..., :2] * z, z], axis=-1)
    known = np.where(flow.valid[:, 0], flow.uvz[:, 0, 2], 1)
    nearer = weights / known[around]
    nearer = nearer / nearer.sum(1, keepdims=True)
    mean = np.zeros((len(around), *rays.shape[1:]))
    for number in range(4):
        mean += nearer[:, number, None, None] * rays[around[:, number]]
    mean[..., :2] /= np.where(usable, mean[..., 2], 1)[..., None]
    return mean
