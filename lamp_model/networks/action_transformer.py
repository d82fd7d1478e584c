"""The Action Expert: a transformer over [noisy action tokens ; projected guided features] (paper, section 3.4)."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lamp_model.errors import TooLong
from lamp_model.features import Features
from lamp_model.model_config import ActionConfig

TIME_CHANNELS = 32
MAX_PERIOD = 100.0


@dataclass(frozen=True)
class ActionContext:
    """Values that are the same in all Euler steps.

    Attributes:
        tokens: projected guided features with position embeddings, the input of the first block.
        first: their queries, keys and values in the first block. Those of later blocks cannot be reused: there the
            features have attended to the noisy actions and differ from step to step.
        mask: true where a token of [actions ; features] may be attended to; None when all may.
    """

    tokens: Float[torch.Tensor, "B L W"]
    first: Float[torch.Tensor, "B L QKV"]
    mask: Bool[torch.Tensor, "B 1 1 N"] | None


class SelfAttention(nn.Module):
    """Multi-head attention over the whole sequence."""

    def __init__(self, config: ActionConfig):
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(
        self, qkv: Float[torch.Tensor, "B N QKV"], mask: torch.Tensor | None, asking: int
    ) -> Float[torch.Tensor, "B Q W"]:
        """The attention output of the first ``asking`` tokens, from the queries, keys and values of all."""
        batch, length, width = qkv.shape
        q, k, v = qkv.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        x = functional.scaled_dot_product_attention(q[:, :, :asking], k, v, attn_mask=mask, dropout_p=dropout)
        x = self.proj(x.transpose(1, 2).reshape(batch, asking, width // 3))
        return functional.dropout(x, dropout)


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

    def qkv(self, x: Float[torch.Tensor, "B N W"]) -> Float[torch.Tensor, "B N QKV"]:
        """Queries, keys and values of each token."""
        return self.attn.qkv(self.norm1(x))

    def forward(
        self,
        x: Float[torch.Tensor, "B N W"],
        mask: torch.Tensor | None,
        asking: int,
        qkv: Float[torch.Tensor, "B N QKV"] | None = None,
    ) -> Float[torch.Tensor, "B Q W"]:
        """The first ``asking`` tokens after this block; ``qkv``: already computed queries, keys and values."""
        attended = self.attn(self.qkv(x) if qkv is None else qkv, mask, asking)
        x = x[:, :asking] + attended
        return x + self.mlp(self.norm2(x))


class ActionTransformer(nn.Module):
    """The transformer that all action heads share. The heads differ in the input and the output of action tokens.

    Attributes:
        checkpointing: recompute the activations inside a block in the backward pass: less memory, the same gradients.
    """

    checkpointing = False

    def __init__(self, config: ActionConfig, feature_width: int, inputs: int, outputs: int):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.vlm_proj = nn.Linear(feature_width, config.width)
        self.action_encoder = nn.Linear(inputs, config.width)
        self.action_decoder = nn.Linear(config.width, outputs)
        self.norm = nn.LayerNorm(config.width)
        self.pos_emb = nn.Parameter(torch.zeros(1, config.positions, config.width))
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.pos_emb, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        # A newly initialised network predicts zero velocity.
        nn.init.zeros_(self.action_decoder.weight)

    @property
    def _first(self) -> Block:
        return cast(Block, self.blocks[0])

    def context(self, guided: Features) -> ActionContext:
        """Compute the values that are the same in all Euler steps.

        Raises:
            TooLong: there are more tokens than positions.
        """
        batch, length, _ = guided.tokens.shape
        chunk = self.config.chunk
        if chunk + length > self.config.positions:
            raise TooLong(
                f"{length} feature tokens and {chunk} actions exceed the Action Expert's {self.config.positions} "
                "positions; "
                "shorten the instruction, use smaller images or train with more --positions"
            )
        tokens, attend = self.vlm_proj(guided.tokens), None
        if guided.mask is None:
            tokens = tokens + self.pos_emb[:, chunk : chunk + length]
        else:
            # Positions count the sample's own tokens only, so that left padding does not shift them.
            order = (guided.mask.cumsum(1) - 1).clamp(min=0) + chunk
            tokens = tokens + self.pos_emb[0, order]
            attend = torch.cat([guided.mask.new_ones(batch, chunk), guided.mask], dim=1)[:, None, None]
        return ActionContext(tokens, self._first.qkv(tokens), attend)

    def forward(
        self,
        told: Float[torch.Tensor, "B H I"],
        context: ActionContext,
        present: Bool[torch.Tensor, "B H"] | None = None,
    ) -> Float[torch.Tensor, "B H O"]:
        """The output of the action tokens.

        Args:
            present: false for actions after the episode's end, which no token may attend to; None: all are present.
        """
        chunk, mask = told.shape[1], _without_absent(context, present)
        actions = self.action_encoder(told) + self.pos_emb[:, :chunk]
        x = torch.cat([actions, context.tokens.to(actions.dtype)], dim=1)
        own = self._first.qkv(actions)
        qkv: torch.Tensor | None = torch.cat([own, context.first.to(own.dtype)], dim=1)
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            # The features after the last block are not used.
            x = self._run(block, x, mask, chunk if number == last else x.shape[1], qkv)
            qkv = None
        return self.action_decoder(self.norm(x))

    def _run(self, block: nn.Module, *inputs: torch.Tensor | int | None) -> torch.Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return cast(torch.Tensor, checkpoint(block, *inputs, use_reentrant=False))
        return block(*inputs)


def _without_absent(context: ActionContext, present: torch.Tensor | None) -> torch.Tensor | None:
    """The mask of a context, with absent actions masked out."""
    if present is None:
        return context.mask
    features = context.mask[..., present.shape[1] :] if context.mask is not None else None
    if features is None:
        features = present.new_ones(len(present), 1, 1, context.tokens.shape[1])
    return torch.cat([present[:, None, None], features], dim=-1)


class ActionExpert(ActionTransformer):
    """Predicts the velocity of a normalised action chunk from guided features and a normalised state."""

    def __init__(self, config: ActionConfig, feature_width: int):
        inputs = config.action_size + TIME_CHANNELS + config.state_size
        super().__init__(config, feature_width, inputs, config.action_size)

    def velocity(
        self,
        noisy: Float[torch.Tensor, "B H A"],
        t: Float[torch.Tensor, " B"],
        state: Float[torch.Tensor, "B S"],
        context: ActionContext,
        present: Bool[torch.Tensor, "B H"] | None = None,
    ) -> Float[torch.Tensor, "B H A"]:
        """dx/dt of the chunk at flow time t (1 noise, 0 data); see ``forward`` for ``present``."""
        told = torch.cat([time_sinusoid(t), state], dim=-1)[:, None].expand(-1, noisy.shape[1], -1)
        # Order of the published encoder's 47 inputs: noisy action, time, proprioception.
        return self(torch.cat([noisy, told.to(noisy.dtype)], dim=-1), context, present)


def time_sinusoid(t: Float[torch.Tensor, " B"]) -> Float[torch.Tensor, "B 32"]:
    """Sinusoids of flow time with periods up to 100, cosines first."""
    half = TIME_CHANNELS // 2
    frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
