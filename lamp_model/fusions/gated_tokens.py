"""Per-token gated cross-attention: each token decides by itself how much motion it takes in (a second reading of section 3.3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes.

    Attributes:
        layers: cross-attentions after each other, each with its own gates.
        gate: the gates' initial bias before the sigmoid.
    """

    feature_width: int = 2560
    motion_width: int = 1024
    heads: int = 40
    dropout: float = 0.1
    layers: int = 1
    gate: float = 0.0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.feature_width % self.heads:
            raise ValueError(
                f"gated-tokens fusion needs a number of heads that divides the feature width {self.feature_width}, "
                f"found {self.heads}"
            )
        if self.layers < 1:
            raise ValueError(f"gated-tokens fusion needs at least 1 layer, found {self.layers}")


class TokenGatedLayer(nn.Module):
    """h + sigmoid(w h + b) * CrossAttn(LN(h), LN(W m)), a gate for each token."""

    def __init__(self, config: Config):
        super().__init__()
        width = config.feature_width
        self.motion_proj = nn.Linear(config.motion_width, width)
        self.norm_vl = nn.LayerNorm(width)
        self.norm_motion = nn.LayerNorm(width)
        self.cross_attn = nn.MultiheadAttention(width, config.heads, dropout=config.dropout, batch_first=True)
        self.gate = nn.Linear(width, 1)
        nn.init.zeros_(self.gate.weight)  # all tokens begin alike and learn to differ
        nn.init.constant_(self.gate.bias, config.gate)

    def forward(
        self, features: Float[torch.Tensor, "B L D"], hidden: Float[torch.Tensor, "B M W"]
    ) -> Float[torch.Tensor, "B L D"]:
        """Features that have looked once."""
        motion = self.norm_motion(self.motion_proj(hidden))
        seen = self.norm_vl(features)
        looked_up, _ = self.cross_attn(seen, motion, motion, need_weights=False)
        return features + torch.sigmoid(self.gate(seen)) * looked_up


class TokenGates(nn.Module):
    """One or several layers of it."""

    def __init__(self, config: Config):
        super().__init__()
        self.layers = nn.ModuleList(TokenGatedLayer(config) for _ in range(config.layers))

    def forward(
        self, features: Float[torch.Tensor, "B L D"], hidden: Float[torch.Tensor, "B M W"]
    ) -> Float[torch.Tensor, "B L D"]:
        """Guided features. A token's gate and guidance depend on no other token, so padding cannot leak through them."""
        for layer in self.layers:
            features = layer(features, hidden)
        return features


def build(config: Config) -> nn.Module:
    """The fusion of a config."""
    return TokenGates(config)
