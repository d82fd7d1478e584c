"""Gated cross-attention with one gate per token (another interpretation of section 3.3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn

from lamp_model.fusions._gates import GatedConfig
from lamp_model.model_config import check_sizes


@dataclass(frozen=True)
class Config(GatedConfig):
    """Sizes.

    Attributes:
        layers: number of cross-attention layers, each with its own gates; ``gate`` is the initial bias of the gates.
    """

    layers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, (), counts=("layers",))


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
        nn.init.zeros_(self.gate.weight)  # all tokens start with the same gate
        nn.init.constant_(self.gate.bias, config.gate)

    def forward(
        self, features: Float[torch.Tensor, "B L D"], hidden: Float[torch.Tensor, "B M W"]
    ) -> Float[torch.Tensor, "B L D"]:
        """The features after this layer."""
        motion = self.norm_motion(self.motion_proj(hidden))
        looked_up, _ = self.cross_attn(self.norm_vl(features), motion, motion, need_weights=False)
        return features + torch.sigmoid(self.gate(features)) * looked_up


class TokenGates(nn.Module):
    """One or more layers of per-token gated cross-attention."""

    def __init__(self, config: Config):
        super().__init__()
        self.layers = nn.ModuleList(TokenGatedLayer(config) for _ in range(config.layers))

    def mean_gate(self) -> Float[torch.Tensor, " "]:
        """The mean over the layers of the gate of a feature of zeros, 0..1."""
        gates = [layer.gate.bias for layer in self.layers if isinstance(layer, TokenGatedLayer)]
        return torch.stack([torch.sigmoid(bias).mean() for bias in gates]).mean()

    def forward(
        self, features: Float[torch.Tensor, "B L D"], hidden: Float[torch.Tensor, "B M W"]
    ) -> Float[torch.Tensor, "B L D"]:
        """Guided features. A token's gate and attention depend on no other feature token, so padding has no effect."""
        for layer in self.layers:
            features = layer(features, hidden)
        return features


def build(config: Config) -> nn.Module:
    """The fusion of a config."""
    return TokenGates(config)
