"""Motion Guidance: one gated cross-attention on the last-layer features (paper, section 3.3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn

from lamp_model.fusions._gates import GatedConfig


@dataclass(frozen=True)
class Config(GatedConfig):
    """There are no other options."""


class GatedCrossAttention(nn.Module):
    """h + sigmoid(g) * CrossAttn(LN(h), LN(W m)) with one scalar gate g."""

    def __init__(self, config: Config):
        super().__init__()
        self.motion_proj = nn.Linear(config.motion_width, config.feature_width)
        self.norm_vl = nn.LayerNorm(config.feature_width)
        self.norm_motion = nn.LayerNorm(config.feature_width)
        self.cross_attn = nn.MultiheadAttention(
            config.feature_width, config.heads, dropout=config.dropout, batch_first=True
        )
        self.gate = nn.Parameter(torch.tensor([config.gate]))

    def mean_gate(self) -> Float[torch.Tensor, " "]:
        """The gate, 0..1."""
        return torch.sigmoid(self.gate).mean()

    def forward(
        self, features: Float[torch.Tensor, "B L D"], hidden: Float[torch.Tensor, "B M W"]
    ) -> Float[torch.Tensor, "B L D"]:
        """Guided features. Every token attends to all motion tokens and to no feature, so padding has no effect."""
        motion = self.norm_motion(self.motion_proj(hidden))
        looked_up, _ = self.cross_attn(self.norm_vl(features), motion, motion, need_weights=False)
        return features + torch.sigmoid(self.gate) * looked_up


def build(config: Config) -> nn.Module:
    """The fusion of a config."""
    return GatedCrossAttention(config)
