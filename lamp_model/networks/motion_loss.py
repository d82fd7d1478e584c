"""What of the Motion Expert's error counts how much; by default all that was measured counts alike (paper)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float

from lamp_model.networks import motion_layout
from lamp_model.networks.flow_matching import masked_mean

FAR = 1 / 128
"""Of the picture's side: a point that goes further from its start moves."""


@dataclass(frozen=True)
class LossWeights:
    """Beside the mean squared error of the increments.

    Attributes:
        path: of the mean squared error of the positions that the increments add up to.
        moving: how many times more a point counts that moves than one that stands still.
    """

    path: float = 0.0
    moving: float = 1.0


PUBLISHED_WEIGHTS = LossWeights()
"""Increments only, and all alike (paper)."""


def increment_error(
    error: Float[torch.Tensor, "B F C G G"],
    counted: Bool[torch.Tensor, "B F C G G"],
    weight: Float[torch.Tensor, "B F C G G"] | None,
) -> Float[torch.Tensor, " "]:
    """Mean squared error over entries that are counted; a weight changes what an entry adds, not their number."""
    squares = error**2 if weight is None else error**2 * weight
    return masked_mean(squares, counted)


def path_error(
    error: Float[torch.Tensor, "B F C G G"],
    counted: Bool[torch.Tensor, "B F C G G"],
    weight: Float[torch.Tensor, "B F C G G"] | None,
    steps: int,
) -> Float[torch.Tensor, " "]:
    """The same of the positions that increments add up to, over steps until one was not counted.

    Args:
        steps: packed into one frame.
    """
    known = motion_layout.unpack(counted.float(), steps).cumprod(2).bool()
    positions = motion_layout.unpack(torch.where(counted, error, 0), steps).cumsum(2)
    squares = positions**2 if weight is None else positions**2 * motion_layout.unpack(weight, steps)
    return masked_mean(squares, known)


def far_points(motion: Float[torch.Tensor, "B K T 3"], mask: Bool[torch.Tensor, "B K T"]) -> Bool[torch.Tensor, "B K"]:
    """Points that, while they were followed, went further than ``FAR`` from where they began.

    Args:
        motion: increments in the unit square.
    """
    far = motion[..., :2].cumsum(2).norm(dim=-1) * mask.float().cumprod(2)
    return far.amax(2) > FAR
