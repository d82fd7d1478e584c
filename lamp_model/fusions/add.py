"""Fusion by addition (the paper's ablation): the mean motion token, projected, is added to every token."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn


@dataclass(frozen=True)
class Config:
    """Widths of features and of the hidden state."""

    feature_width: int = 2560
    motion_width: int = 1024


class Addition(nn.Module):
    """h + W mean(m)."""

    def __init__(self, config: Config):
        super().__init__()
        self.motion_proj = nn.Linear(config.motion_width, config.feature_width)

    def forward(
        self, features: Float[torch.Tensor, "B L D"], hidden: Float[torch.Tensor, "B M W"]
    ) -> Float[torch.Tensor, "B L D"]:
        """Guided features. The motion tokens are averaged because the two sequences differ in length and meaning."""
        return features + self.motion_proj(hidden.mean(dim=1, keepdim=True))


def build(config: Config) -> nn.Module:
    """The fusion of a config."""
    return Addition(config)
