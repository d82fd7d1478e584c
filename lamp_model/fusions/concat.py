"""Fusion by concatenation and a two-layer MLP (the paper's ablation)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn


@dataclass(frozen=True)
class Config:
    """Widths of features and of the hidden state."""

    feature_width: int = 2560
    motion_width: int = 1024


class Concatenation(nn.Module):
    """MLP([h ; mean(m)]) for every token."""

    def __init__(self, config: Config):
        super().__init__()
        width = config.feature_width
        self.mlp = nn.Sequential(nn.Linear(width + config.motion_width, width), nn.GELU(), nn.Linear(width, width))

    def forward(
        self, features: Float[torch.Tensor, "B L D"], hidden: Float[torch.Tensor, "B M W"]
    ) -> Float[torch.Tensor, "B L D"]:
        """Guided features."""
        motion = hidden.mean(dim=1, keepdim=True).expand(-1, features.shape[1], -1)
        return self.mlp(torch.cat([features, motion], dim=-1))


def build(config: Config) -> nn.Module:
    """The fusion of a config."""
    return Concatenation(config)
