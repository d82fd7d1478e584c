"""Means over what a batch really holds: padding and what was not seen teach nothing."""

import torch
from jaxtyping import Bool, Float


def masked_mean(values: Float[torch.Tensor, " *n"], mask: Bool[torch.Tensor, " *n"]) -> Float[torch.Tensor, " "]:
    """The mean over entries whose mask is true; 0 when there are none. What is masked has no gradient."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)
