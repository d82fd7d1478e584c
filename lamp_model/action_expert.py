"""The Action Expert: a transformer over [noisy action tokens ; projected guided features] (paper, section 3.4)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from lamp_model.features import Features

TIME_CHANNELS = 32
MAX_PERIOD = 100.0


@dataclass(frozen=True)
class ActionConfig:
    """Sizes of the Action Expert; the defaults are the paper's for LIBERO.

    Attributes:
        action_size: A, numbers in an action.
        state_size: S, numbers in a state.
        chunk: H, actions predicted at once.
        positions: the longest sequence of action and feature tokens together.
        denoising_steps: Euler steps of a prediction.
    """

    action_size: int = 7
    state_size: int = 8
    chunk: int = 10
    layers: int = 24
    width: int = 1024
    heads: int = 16
    mlp_ratio: int = 4
    dropout: float = 0.1
    positions: int = 512
    denoising_steps: int = 10

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"heads must divide the Action Expert's width {self.width}, found {self.heads}")
        if not 0 < self.chunk < self.positions:
            raise ValueError(
                f"an action chunk must have between 1 and {self.positions - 1} actions, found {self.chunk}"
            )


class SelfAttention(nn.Module):
    """Multi-head attention over the whole sequence."""

    def __init__(self, config: ActionConfig):
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return functional.dropout(self.proj(x.transpose(1, 2).reshape(batch, length, width)), dropout)


class FeedForward(nn.Module):
    """Two layers with GELU (tanh)."""

    def __init__(self, config: ActionConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.fc2 = nn.Linear(config.mlp_ratio * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.fc2(self.dropout(functional.gelu(self.fc1(x), approximate="tanh"))))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: ActionConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attn = SelfAttention(config)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = FeedForward(config)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


class ActionExpert(nn.Module):
    """Velocity of a normalised action chunk, given guided features and a normalised state."""

    def __init__(self, config: ActionConfig, feature_width: int):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.vlm_proj = nn.Linear(feature_width, config.width)
        self.action_encoder = nn.Linear(config.action_size + TIME_CHANNELS + config.state_size, config.width)
        self.action_decoder = nn.Linear(config.width, config.action_size)
        self.norm = nn.LayerNorm(config.width)
        self.pos_emb = nn.Parameter(torch.zeros(1, config.positions, config.width))
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.pos_emb, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        # From scratch, the first prediction is "no velocity" and not a random one.
        nn.init.zeros_(self.action_decoder.weight)

    def context(self, guided: Features) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Feature tokens with their positions, and the attention mask: what does not change over the Euler steps.

        Raises:
            ValueError: there are more tokens than positions.
        """
        batch, length, _ = guided.tokens.shape
        chunk = self.config.chunk
        if chunk + length > self.config.positions:
            raise ValueError(
                f"{length} feature tokens and {chunk} actions exceed the Action Expert's {self.config.positions} positions; "
                "shorten the instruction or use smaller images"
            )
        tokens = self.vlm_proj(guided.tokens)
        if guided.mask is None:
            return tokens + self.pos_emb[:, chunk : chunk + length], None
        # A token's position counts the sample's own tokens, so that left padding cannot move them.
        order = (guided.mask.cumsum(1) - 1).clamp(min=0) + chunk
        attend = torch.cat([guided.mask.new_ones(batch, chunk), guided.mask], dim=1)
        return tokens + self.pos_emb[0, order], attend[:, None, None]

    def velocity(
        self,
        noisy: Float[torch.Tensor, "B H A"],
        t: Float[torch.Tensor, "B"],
        state: Float[torch.Tensor, "B S"],
        context: tuple[torch.Tensor, torch.Tensor | None],
    ) -> Float[torch.Tensor, "B H A"]:
        """dx/dt of the chunk at flow time t (1 noise, 0 data)."""
        tokens, mask = context
        chunk = noisy.shape[1]
        told = torch.cat([time_sinusoid(t), state], dim=-1)[:, None].expand(-1, chunk, -1)
        # Order of the published encoder's 47 inputs: noisy action, time, proprioception.
        actions = self.action_encoder(torch.cat([noisy, told.to(noisy.dtype)], dim=-1)) + self.pos_emb[:, :chunk]
        x = torch.cat([actions, tokens.to(actions.dtype)], dim=1)
        for block in self.blocks:
            x = block(x, mask)
        return self.action_decoder(self.norm(x[:, :chunk]))


def time_sinusoid(t: Float[torch.Tensor, "B"]) -> Float[torch.Tensor, "B 32"]:
    """Sinusoids of flow time with periods up to 100, cosines first."""
    half = TIME_CHANNELS // 2
    frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
