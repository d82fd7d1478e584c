"""The Motion Expert: a CogVideoX-style 3D transformer that turns noise into scene flow (paper, section 3.2).

Built from diffusers' modules, with the parameter names of the published checkpoints (``motion_head.*``).
"""

import torch
from diffusers.models.embeddings import CogVideoXPatchEmbed, TimestepEmbedding, Timesteps, get_3d_sincos_pos_embed
from diffusers.models.normalization import AdaLayerNorm
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock
from jaxtyping import Bool, Float
from torch import nn
from torch.utils.checkpoint import checkpoint

from lamp_model.features import Features
from lamp_model.model_config import MotionConfig
from lamp_model.networks import motion_layout
from lamp_model.networks.conditioning import Conditioning, FeatureNorm, FeatureSummary, places
from lamp_model.networks.flow_matching import (
    TIMESTEPS,
    integrate_motion,
    motion_estimate,
    motion_gain,
    motion_path,
    motion_timestep,
    motion_velocity,
    sample_motion_time,
)
from lamp_model.networks.loss_term import Draws, LossTerm
from lamp_model.networks.motion_loss import PUBLISHED_WEIGHTS, LossWeights, far_points, increment_error, path_error

SPATIAL_SCALE = 1.875
"""CogVideoX's interpolation scale of the spatial positions; the checkpoints were trained with it."""


class MotionTransformer(nn.Module):
    """Joint attention over conditioning and motion tokens with adaptive layer norm from the flow time.

    Attributes:
        checkpointing: recompute the activations inside a block in the backward pass: less memory, the same gradients.
    """

    seen: torch.Tensor
    checkpointing = False

    def __init__(self, config: MotionConfig):
        super().__init__()
        c = config
        self.config = c
        self.patch_embed = CogVideoXPatchEmbed(
            patch_size=c.patch_size,
            patch_size_t=1,
            in_channels=c.channels,
            embed_dim=c.width,
            text_embed_dim=c.width,
            # Its position table assumes a fixed number of conditioning tokens, for which it is zero; see below.
            use_positional_embeddings=False,
            use_learned_positional_embeddings=False,
        )
        self.embedding_dropout = nn.Dropout(c.dropout)
        self.time_proj = Timesteps(c.time_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(c.time_channels, c.width, "silu")
        self.transformer_blocks = nn.ModuleList(
            CogVideoXBlock(
                dim=c.width,
                num_attention_heads=c.heads,
                attention_head_dim=c.head_dim,
                time_embed_dim=c.width,
                dropout=c.dropout,
                attention_bias=True,
            )
            for _ in range(c.layers)
        )
        self.norm_final = nn.LayerNorm(c.width, 1e-5)
        self.norm_out = AdaLayerNorm(c.width, output_dim=2 * c.width, norm_elementwise_affine=True, chunk_dim=1)
        self.proj_out = nn.Linear(c.width, c.patch_size**2 * c.channels)
        # A newly initialised network predicts zero.
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        side = c.grid // c.patch_size
        positions = get_3d_sincos_pos_embed(c.width, (side, side), c.frames, SPATIAL_SCALE, 1.0, output_type="pt")
        self.register_buffer("positions", positions.flatten(0, 1).float()[None], persistent=False)
        self.register_buffer("seen", motion_layout.component_mask(c.packed_steps, c.depth), persistent=False)

    def forward(
        self, packed: Float[torch.Tensor, "B F C G G"], timestep: Float[torch.Tensor, " B"], conditioning: Conditioning
    ) -> tuple[Float[torch.Tensor, "B F C G G"], Float[torch.Tensor, "B M W"]]:
        """The network's prediction (paper: the velocity), and the last block's motion tokens before the final norm."""
        words, count = conditioning.tokens, conditioning.tokens.shape[1]
        packed = packed if self.config.depth else packed * self.seen
        temb = self.time_embedding(self.time_proj(timestep).to(packed.dtype))
        if conditioning.summary is not None:
            temb = temb + conditioning.summary
        # The conditioning tokens are already projected, so the library's module gets none.
        motion = self.patch_embed(words[:, :0], packed)
        motion = motion + self.positions.to(motion.dtype)
        joint = self.embedding_dropout(torch.cat([words.to(motion.dtype), motion], dim=1))
        words, hidden = joint[:, :count], joint[:, count:]
        options = self._attention_options(conditioning.mask)
        for block in self.transformer_blocks:
            if self.checkpointing and torch.is_grad_enabled():
                hidden, words = checkpoint(block, hidden, words, temb, None, options, use_reentrant=False)
            else:
                hidden, words = block(hidden, words, temb, attention_kwargs=options)
        out = self.proj_out(self.norm_out(self.norm_final(hidden), temb=temb))
        given = self._unpatchify(out)
        return given if self.config.depth else given * self.seen, hidden

    def project(self, tokens: Float[torch.Tensor, "B C W"]) -> Float[torch.Tensor, "B C W"]:
        """Conditioning tokens as input of the first block."""
        return self.patch_embed.text_proj(tokens)

    def _attention_options(self, mask: torch.Tensor | None) -> dict[str, torch.Tensor]:
        if mask is None:
            return {}
        attend = torch.cat([mask, mask.new_ones(mask.shape[0], self.config.tokens)], dim=1)
        return {"attention_mask": attend[:, None]}  # [B, 1, keys]: the same for every query

    def _unpatchify(self, out: torch.Tensor) -> torch.Tensor:
        c, p = self.config, self.config.patch_size
        side = c.grid // p
        out = out.reshape(out.shape[0], c.frames, side, side, c.channels, p, p)
        return out.permute(0, 1, 4, 2, 5, 3, 6).reshape(out.shape[0], c.frames, c.channels, c.grid, c.grid)


class MotionDecoder(nn.Module):
    """The transformer with the projection of the conditioning."""

    def __init__(self, config: MotionConfig):
        super().__init__()
        self.learnable_padding_tokens = nn.Parameter(torch.randn(1, config.conditioning_tokens, config.width) * 0.01)
        self.trunk_to_text_proj = nn.Identity()  # the widths are equal, as in the published sizes: no weights
        self.cogvideox = MotionTransformer(config)


class MotionExpert(nn.Module):
    """Generates normalised motion from the backbone's features.

    Noise, states, velocities and estimates are packed: ``[B, F, C, G, G]`` (``lamp_model.networks.motion_layout``).

    Attributes:
        sigma: standard deviation of normalised motion over the training set, where the config needs it.
    """

    sigma: torch.Tensor

    def __init__(self, config: MotionConfig, feature_width: int):
        super().__init__()
        self.config = config
        self.vlm_proj = nn.Linear(feature_width, config.width, bias=False)
        self.decoder = MotionDecoder(config)
        c, room = config, config.conditioning_tokens
        # Extensions to the paper add no entries to the state dictionary when they are off.
        self.feature_norm = FeatureNorm(room, feature_width) if c.feature_norm == "index" else None
        self.feature_places = nn.Parameter(torch.randn(room, c.width) * 0.3) if c.feature_places == "learned" else None
        self.feature_summary = (
            FeatureSummary(room, feature_width, c.feature_summary, c.width) if c.feature_summary else None
        )
        if config.scaled:
            self.register_buffer("sigma", torch.ones(()))

    def condition(self, features: Features) -> Conditioning:
        """Project the features once for all evaluations.

        With a mask all tokens are used and no token attends to padding. Without one (the published checkpoints) the
        sequence is repeated as often as it fits into the fixed number of tokens, and padded with learned ones.
        """
        if self.feature_norm is not None:
            features = self.feature_norm(features)
        summary = None if self.feature_summary is None else self.feature_summary(features)
        tokens = self.decoder.trunk_to_text_proj(self.vlm_proj(features.tokens))
        if features.mask is None:
            tokens = self._repeated(tokens)
        words = self.decoder.cogvideox.project(tokens)
        if self.feature_places is not None:
            words = words + self.feature_places[places(Features(words, features.mask), len(self.feature_places))]
        return Conditioning(words, features.mask, summary)

    def _repeated(self, tokens: torch.Tensor) -> torch.Tensor:
        room = self.config.conditioning_tokens
        if tokens.shape[1] >= room:
            return tokens[:, :room]
        tokens = tokens.repeat(1, room // tokens.shape[1], 1)
        padding = self.decoder.learnable_padding_tokens[:, : room - tokens.shape[1]]
        return torch.cat([tokens, padding.expand(len(tokens), -1, -1).to(tokens.dtype)], dim=1)

    def velocity(
        self, packed: Float[torch.Tensor, "B F C G G"], timestep: Float[torch.Tensor, " B"], conditioning: Conditioning
    ) -> Float[torch.Tensor, "B F C G G"]:
        """The velocity at a time given as an integer in thousandths."""
        return self._velocity(packed, timestep / TIMESTEPS, timestep, conditioning)

    def estimate(
        self, packed: Float[torch.Tensor, "B F C G G"], t: Float[torch.Tensor, " B"], conditioning: Conditioning
    ) -> Float[torch.Tensor, "B F C G G"]:
        """The estimate of the motion from one evaluation of a state at time t, 0..1."""
        given = self._evaluate(packed, t, (t * TIMESTEPS).floor(), conditioning)[0]
        return given if self.config.motion_target == "data" else motion_estimate(packed, given, t)

    def draw(self, batch: int, generator: torch.Generator) -> Draws:
        """Noise and flow times for the loss of a batch, on the generator's device."""
        noise = torch.randn(self.noise_shape(batch), generator=generator, device=generator.device)
        return {"noise": noise, "time": sample_motion_time(batch, generator)}

    def loss(
        self,
        features: Features,
        motion: Float[torch.Tensor, "B K T 3"],
        mask: Bool[torch.Tensor, "B K T"],
        draws: Draws,
        weights: LossWeights = PUBLISHED_WEIGHTS,
    ) -> dict[str, LossTerm]:
        """Mean squared error of the network's prediction (paper, section 3.2: the velocity), over increments whose mask
        is true, without the depth component where the config masks it; with a weight for it, also the path error.

        Args:
            motion: increments in the units of the data.
            draws: the result of ``draw`` for these samples.
            weights: of the path error and of moving points.
        """
        steps = self.config.packed_steps
        data = motion_layout.pack(motion_layout.normalise(motion), steps)
        counted = motion_layout.pack(mask[..., None].expand_as(motion).float(), steps)
        counted = (counted * motion_layout.component_mask(steps, self.config.depth).to(counted.device)).bool()
        weight = None
        if weights.moving != 1:
            each = 1 + (weights.moving - 1) * far_points(motion, mask).to(data)
            weight = motion_layout.pack(each[..., None, None].expand_as(motion), steps)
        t = draws["time"]
        noisy, velocity = motion_path(data, draws["noise"], t)
        given = self._evaluate(noisy, t, (t * TIMESTEPS).floor(), self.condition(features))[0].float()
        of_data = self.config.motion_target == "data"
        terms = {"motion": increment_error(given - (data if of_data else velocity), counted, weight)}
        if weights.path:
            estimate = given if of_data else motion_estimate(noisy, given, t)
            terms["path"] = path_error(estimate - data, counted, weight, steps, weights.path)
        return terms

    def guidance_state(
        self, features: Features, noise: Float[torch.Tensor, "B F C G G"]
    ) -> Float[torch.Tensor, "B M W"]:
        """The hidden state after ``guidance_steps`` denoising steps (paper, section 3.3): the same call in training and
        inference.

        This runs ``guidance_steps`` (1) of ``denoising_steps`` (10) Euler steps from noise, then one more evaluation at
        the time reached. The motion tokens of its last block are the result: two evaluations in all. The authors'
        release defines this for one step only; here N steps are the rollout's first N, at the same times.
        """
        first, steps = self.config.guidance_steps, self.config.denoising_steps
        conditioning = self.condition(features)
        state = integrate_motion(self._velocity_at(conditioning), noise, steps, first)
        t = first / steps
        return self._evaluate(state, _filled(t, state), _filled(motion_timestep(t), state), conditioning)[1]

    def rollout(
        self, features: Features, noise: Float[torch.Tensor, "B F C G G"], first: int | None = None
    ) -> Float[torch.Tensor, "B K T 3"]:
        """The whole motion, normalised, or its state after the ``first`` denoising steps. For inspection and validation
        only; guidance runs just the first steps.
        """
        conditioning = self.condition(features)
        packed = integrate_motion(
            self._velocity_at(conditioning), self._seen(noise), self.config.denoising_steps, first
        )
        return motion_layout.unpack(packed, self.config.packed_steps)

    def first_estimate(
        self, features: Features, noise: Float[torch.Tensor, "B F C G G"]
    ) -> Float[torch.Tensor, "B K T 3"]:
        """The normalised motion estimated by the first evaluation of a rollout, which guidance also starts with."""
        noise = self._seen(noise)
        packed = self.estimate(noise, _filled(0.0, noise), self.condition(features))
        return motion_layout.unpack(packed, self.config.packed_steps)

    def noise_shape(self, batch: int) -> tuple[int, int, int, int, int]:
        """Shape of packed noise for a batch."""
        c = self.config
        return batch, c.frames, c.channels, c.grid, c.grid

    def _evaluate(
        self, x: torch.Tensor, t: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's prediction in the units of x, and its hidden state."""
        if self.config.motion_input == "gain":
            x = x * motion_gain(t, self.sigma).view(-1, 1, 1, 1, 1)
        given, hidden = self.decoder.cogvideox(x, timestep, conditioning)
        return (given * self.sigma if self.config.motion_output == "sigma" else given), hidden

    def _velocity(
        self, x: torch.Tensor, t: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        given = self._evaluate(x, t, timestep, conditioning)[0]
        return motion_velocity(x, given, t) if self.config.motion_target == "data" else given

    def _velocity_at(self, conditioning: Conditioning):
        return lambda x, t: self._velocity(x, _filled(t, x), _filled(motion_timestep(t), x), conditioning)

    def _seen(self, noise: torch.Tensor) -> torch.Tensor:
        return noise if self.config.depth else noise * self.decoder.cogvideox.seen


def _filled(value: float, like: torch.Tensor) -> torch.Tensor:
    return torch.full((like.shape[0],), float(value), device=like.device)
