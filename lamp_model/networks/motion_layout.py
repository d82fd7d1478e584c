"""Layout of motion: normalisation, the order of keypoints and packing of steps into channels, defined only here.

* A motion is ``[B, K, T, 3]``: increments (du, dv, dz) of K = grid * grid keypoints, row by row, over T steps.
* Normalised, it is divided by ``MOTION_SCALE`` (0.05, 0.05, 0.04), so that it lies in about [-1, 1].
* Packed for the network, it is ``[B, F, C, grid, grid]`` with F = T / P frames of P adjacent steps each (P = 2 in the
  paper) and C = 3 P channels. Channel ``P * component + (step in the frame)``: component-major. The published code
  (commit 8264894, its Motion Expert's decoder) splits channels in three places, all of them as [3, P]: where
  ``forward`` packs an unpacked input, where it unpacks its own output, and where a sampled motion, partial or whole, is
  unpacked.
"""

import torch
from jaxtyping import Float

from schemas.scene_flow import MOTION_SCALE


def normalise(motion: Float[torch.Tensor, "*n 3"]) -> Float[torch.Tensor, "*n 3"]:
    """Increments (unit square, depth unit) to the network's scale."""
    return motion / motion.new_tensor(MOTION_SCALE)


def denormalise(motion: Float[torch.Tensor, "*n 3"]) -> Float[torch.Tensor, "*n 3"]:
    """The inverse of ``normalise``."""
    return motion * motion.new_tensor(MOTION_SCALE)


def upright(motion: Float[torch.Tensor, "B K T 3"], flips: tuple[bool, bool]) -> Float[torch.Tensor, "B K T 3"]:
    """Convert motion between the upright image and one with its columns or rows in reverse order: the order of the
    keypoints is reversed too, and u or v changes its sign. It is its own inverse.

    Args:
        flips: whether columns and rows are reversed.
    """
    if not any(flips):
        return motion
    columns, rows = flips
    side = round(motion.shape[1] ** 0.5)
    axes = [axis for axis, reverse in ((1, rows), (2, columns)) if reverse]
    grid = motion.unflatten(1, (side, side)).flip(axes).flatten(1, 2)
    return grid * motion.new_tensor([-1 if columns else 1, -1 if rows else 1, 1])


def pack(motion: Float[torch.Tensor, "B K T 3"], steps: int = 2) -> Float[torch.Tensor, "B F C G G"]:
    """Lay out keypoints as a grid and pack ``steps`` adjacent steps into channels.

    Raises:
        ValueError: K is no square or T is no multiple of ``steps``.
    """
    batch, points, horizon, components = motion.shape
    grid = round(points**0.5)
    if grid * grid != points or horizon % steps:
        raise ValueError(
            f"motion must have a square number of keypoints and a multiple of {steps} steps, found {points} and "
            f"{horizon}"
        )
    frames = motion.reshape(batch, grid, grid, horizon // steps, steps, components)
    return frames.permute(0, 3, 5, 4, 1, 2).reshape(batch, horizon // steps, components * steps, grid, grid)


def unpack(packed: Float[torch.Tensor, "B F C G G"], steps: int = 2) -> Float[torch.Tensor, "B K T 3"]:
    """The inverse of ``pack``."""
    batch, frames, channels, grid, _ = packed.shape
    motion = packed.reshape(batch, frames, channels // steps, steps, grid, grid)
    return motion.permute(0, 4, 5, 1, 3, 2).reshape(batch, grid * grid, frames * steps, channels // steps)


def component_mask(steps: int, depth: bool) -> Float[torch.Tensor, "C 1 1"]:
    """1 for the channels of a packed frame that are used, 0 for those of depth when it is masked."""
    seen = torch.ones(3, steps, 1, 1)
    seen[2] = float(depth)
    return seen.flatten(0, 1)
