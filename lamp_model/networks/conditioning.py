"""The Motion Expert's conditioning: how it processes the backbone's features.

A feature's place is its index among the sample's own tokens, from the start of the prompt, without padding. Images and
fixed words come first, so a place has the same meaning in every sample until the instructions differ in length.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from lamp_model.features import Features

SPREAD = 1e-3
"""Added to a standard deviation, so that a constant channel is not divided by zero."""


@dataclass(frozen=True)
class Conditioning:
    """The Motion Expert's conditioning, the same for every evaluation.

    Attributes:
        tokens: input of the first block.
        mask: true where a token may be attended to; None when all may.
        summary: of all features; input of the adaptive norms together with the flow time; None where there is none.
    """

    tokens: Float[torch.Tensor, "B C W"]
    mask: Bool[torch.Tensor, "B C"] | None
    summary: Float[torch.Tensor, "B W"] | None = None


def places(features: Features, most: int) -> Int[torch.Tensor, "B L"]:
    """Each token's place, 0 .. most - 1; undefined for padding."""
    if features.mask is None:
        count = torch.arange(features.tokens.shape[1], device=features.tokens.device)
        return count.clamp(max=most - 1).expand(features.tokens.shape[:2])
    return (features.mask.long().cumsum(1) - 1).clamp(min=0, max=most - 1)


class FeatureNorm(nn.Module):
    """Standardises features by the training set's mean and standard deviation of each place and channel.

    Attributes:
        mean, std: of the training set, by place and channel; saved with the weights.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, places: int, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(places, width))
        self.register_buffer("std", torch.ones(places, width))

    def forward(self, features: Features) -> Features:
        """The tokens with about zero mean and unit standard deviation in each channel; padding is 0."""
        at = places(features, len(self.mean))
        tokens = (features.tokens.float() - self.mean[at]) / self.std[at]
        if features.mask is not None:
            tokens = tokens.masked_fill(~features.mask[..., None], 0)
        return Features(tokens, features.mask)


class FeatureSummary(nn.Module):
    """Projects each feature to a few channels, concatenates them by place, and projects them to one vector."""

    def __init__(self, places: int, feature_width: int, numbers: int, width: int):
        super().__init__()
        self.places = places
        self.few = nn.Linear(feature_width, numbers, bias=False)
        self.all = nn.Linear(places * numbers, width)
        nn.init.normal_(self.few.weight, std=feature_width**-0.5)
        nn.init.normal_(self.all.weight, std=(places * numbers) ** -0.5)

    def forward(self, features: Features) -> Float[torch.Tensor, "B W"]:
        """The summary of the first ``places`` tokens; later ones are left out."""
        few = self.few(features.tokens)
        at = places(features, self.places + 1)  # one extra place for all later tokens
        if features.mask is not None:
            at = at.masked_fill(~features.mask, self.places)
        slots = few.new_zeros(len(few), self.places + 1, few.shape[-1])
        slots = slots.scatter(1, at[..., None].expand_as(few), few)
        return self.all(slots[:, : self.places].flatten(1))
