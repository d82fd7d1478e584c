"""Weights of the Motion Expert's loss; by default all valid increments have equal weight (paper)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float

from lamp_model.networks import motion_layout
from lamp_model.networks.loss_term import LossTerm, masked_term

FAR = 1 / 128
"""As a fraction of the image side: a point that goes further than this from its start is moving."""


@dataclass(frozen=True)
class LossWeights:
    """Weights relative to the mean squared error of the increments.

    Attributes:
        path: weight of the mean squared error of the positions, the cumulative sums of the increments.
        moving: weight of a moving point; a static one has weight 1.
    """

    path: float = 0.0
    moving: float = 1.0


PUBLISHED_WEIGHTS = LossWeights()
"""Increments only, with equal weights (paper)."""


def increment_error(
    error: Float[torch.Tensor, "B F C G G"],
    counted: Bool[torch.Tensor, "B F C G G"],
    weight: Float[torch.Tensor, "B F C G G"] | None,
) -> LossTerm:
    """Squared error over valid entries. Weights multiply the errors; the divisor stays the number of entries."""
    squares = error**2 if weight is None else error**2 * weight
    return masked_term(squares, counted)


def path_error(
    error: Float[torch.Tensor, "B F C G G"],
    counted: Bool[torch.Tensor, "B F C G G"],
    weight: Float[torch.Tensor, "B F C G G"] | None,
    steps: int,
    share: float,
) -> LossTerm:
    """Squared error of positions (cumulative sums of increments), over steps before the first invalid one.

    Args:
        steps: packed into one frame.
        share: weight of the term.
    """
    known = motion_layout.unpack(counted.float(), steps).cumprod(2).bool()
    positions = motion_layout.unpack(torch.where(counted, error, 0), steps).cumsum(2)
    squares = positions**2 if weight is None else positions**2 * motion_layout.unpack(weight, steps)
    return masked_term(squares, known, share)


def valid_entries(mask: Bool[torch.Tensor, "B K T"], depth: bool) -> dict[str, int]:
    """Number of entries that the terms of the loss are means over.

    Args:
        depth: the depth component is learned too.
    """
    components = 3 if depth else 2
    return {"motion": components * int(mask.sum()), "path": components * int(mask.cumprod(2).sum())}


def far_points(motion: Float[torch.Tensor, "B K T 3"], mask: Bool[torch.Tensor, "B K T"]) -> Bool[torch.Tensor, "B K"]:
    """True for points that went further than ``FAR`` from their start while they were valid.

    Args:
        motion: increments in the unit square.
    """
    far = motion[..., :2].cumsum(2).norm(dim=-1) * mask.float().cumprod(2)
    return far.amax(2) > FAR
