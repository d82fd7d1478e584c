"""The whole model: backbone, Motion Expert, Motion Guidance, Action Expert (paper, figure 2).

Attribute names are the prefixes of the published checkpoints.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from accelerate import init_empty_weights
from jaxtyping import Float, UInt8
from torch import nn

from lamp_model.action_heads import make_action_head
from lamp_model.backbones import make_backbone
from lamp_model.config import TrainingConfig
from lamp_model.features import Features
from lamp_model.fusions import make_fusion
from lamp_model.model_config import ModelConfig
from lamp_model.networks.action_transformer import ActionTransformer
from lamp_model.networks.conditioning import FeatureNorm
from lamp_model.networks.lora import ADAPTERS, BACKBONE_MODULE, add_adapters
from lamp_model.networks.motion_expert import MotionExpert, MotionTransformer
from lamp_model.networks.precision import round_weights_once


class MotionModel(nn.Module):
    """The model of stage 1: the Motion Expert on its backbone."""

    def __init__(self, config: ModelConfig):
        """Build the model. The backbone loads its weights; everything else is initialised at random.

        Raises:
            ValueError: a plug-in is unknown, an option does not fit or weights are missing.
        """
        super().__init__()
        self.config = config
        self.qwen_vl_interface = make_backbone(config.backbone, config.backbone_options)
        if config.lora_rank:
            add_adapters(self.qwen_vl_interface.language_model, config.lora_rank, config.lora_modules)
        if not config.guided:
            return
        self.motion_head = MotionExpert(config.motion, self.qwen_vl_interface.width)
        if config.padding == "masked":
            # Used by the other padding mode only; weights without a gradient must not count as trainable.
            self.motion_head.decoder.learnable_padding_tokens.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def backbone_learns(self) -> bool:
        """Whether any weight of the backbone, or an adapter in it, gets a gradient."""
        return any(parameter.requires_grad for parameter in self.get_submodule(BACKBONE_MODULE).parameters())

    def place(self, device: torch.device, training: TrainingConfig | None = None) -> None:
        """Move to a device. On a GPU the backbone is in bfloat16, unless all of it is trained; everything else is in
        float32.
        """
        self.qwen_vl_interface.place(device, training is not None and training.train_backbone == "full")
        for name, module in self.named_children():
            if name != "qwen_vl_interface":
                module.to(device).float()

    def checkpoint_activations(self, on: bool) -> None:
        """Turn activation checkpointing on or off, for blocks that are trained or hold adapters."""
        self.qwen_vl_interface.checkpoint_activations(on)
        for module in self.modules():
            if isinstance(module, MotionTransformer | ActionTransformer):
                module.checkpointing = on

    def encode(self, images: Sequence[UInt8[torch.Tensor, "B _ _ 3"]], instructions: Sequence[str]) -> Features:
        """Features of one upright RGB image for each camera and one instruction per sample. They have a gradient where
        the backbone learns.
        """
        if len(images) != len(self.config.cameras):
            raise ValueError(
                f"the model looks at {len(self.config.cameras)} images ({', '.join(self.config.cameras)}), found "
                f"{len(images)}"
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.backbone_learns):
            features = self.qwen_vl_interface.encode(images, instructions)
        tokens = features.tokens.float()
        if self.config.padding == "repeat" or features.mask is None:
            return Features(tokens, None)
        return Features(tokens.masked_fill(~features.mask[..., None], 0), features.mask)


class PolicyModel(MotionModel):
    """The policy, trained in stage 2: the motion model with guidance and Action Expert."""

    def __init__(self, config: ModelConfig, head_seed: int | None = None):
        """See ``MotionModel``.

        Args:
            head_seed: torch is seeded with this before the action head is initialised, so that the head begins with the
                same weights whatever else the model holds; None: it is not.
        """
        super().__init__(config)
        width = self.qwen_vl_interface.width
        if config.guided:
            self.motion_guidance = make_fusion(config.fusion, config.fusion_options, width, config.motion.width)
        if config.feature_norm == "index":  # an extension to the paper: without it there are no such entries
            self.feature_norm = FeatureNorm(config.action.positions, width)
        if head_seed is not None:
            torch.manual_seed(head_seed)
        self.action_model = make_action_head(config.action_head, config.action_head_options, config.action, width)

    def round_weights(self) -> None:
        """Round the weights of the experts and the guidance once, for inference on a GPU
        (``lamp_model.networks.precision.round_weights_once``).
        """
        for name, module in self.named_children():
            if name != "qwen_vl_interface":  # the backbone is already in bfloat16
                round_weights_once(module)

    def compile_parts(self, mode: str = "default") -> None:
        """Compile the backbone (where its forward pass is one graph, as Qwen3-VL's is) and both experts with
        torch.compile. The first calls take minutes.

        Args:
            mode: of torch.compile; ``reduce-overhead`` also records CUDA graphs.

        Raises:
            ValueError: no such mode.
        """
        check_mode(mode)
        self.qwen_vl_interface.compile_forward(mode)
        if self.config.guided:
            self.motion_head.decoder.cogvideox.compile(mode=mode, fullgraph=True)
        self.action_model.compile(mode=mode, fullgraph=True)

    def motion_noise(self, batch: int, generator: torch.Generator) -> Float[torch.Tensor, "B F C G G"] | None:
        """Noise for the Motion Expert, on the generator's device; without one, None, and nothing is drawn."""
        if not self.config.guided:
            return None
        return torch.randn(self.motion_head.noise_shape(batch), generator=generator, device=generator.device)

    def action_noise(self, batch: int, generator: torch.Generator) -> Float[torch.Tensor, "B H A"] | None:
        """Noise for the action head, on the generator's device; None, with nothing drawn, if the head needs none."""
        return self.action_model.noise(batch, generator)

    def guided_features(self, features: Features, noise: Float[torch.Tensor, "B F C G G"] | None) -> Features:
        """Features for the Action Expert: standardised where the config says so, and guided by the Motion Expert where
        there is one."""
        taken = features if self.config.feature_norm == "none" else self.feature_norm(features)
        return taken if noise is None else self.guide(taken, self.guidance_state(features, noise))

    def guidance_state(
        self, features: Features, noise: Float[torch.Tensor, "B F C G G"]
    ) -> Float[torch.Tensor, "B M W"]:
        """The Motion Expert's hidden state after one denoising step: the same call in training and inference; no
        gradient, no dropout."""
        learning = self.motion_head.training  # true only for the joint objective
        self.motion_head.eval()
        with torch.no_grad():
            hidden = self.motion_head.guidance_state(features, noise)
        self.motion_head.train(learning)
        return hidden

    def guide(self, features: Features, hidden: Float[torch.Tensor, "B M W"]) -> Features:
        """Features after Motion Guidance."""
        return Features(self.motion_guidance(features.tokens, hidden), features.mask)

    def act(
        self, guided: Features, state: Float[torch.Tensor, "B S"], noise: Float[torch.Tensor, "B H A"] | None
    ) -> Float[torch.Tensor, "B H A"]:
        """Predict a normalised action chunk for a normalised state."""
        return self.action_model.act(guided, state, noise)


def learning_modules(model: ModelConfig, training: TrainingConfig) -> tuple[str, ...]:
    """Names of the modules of a model that a stage trains."""
    if training.stage == 1:
        modules = ["motion_head"]
    else:
        modules = ["motion_guidance", "action_model"] if model.guided else ["action_model"]
        if model.feature_norm != "none":
            modules.append("feature_norm")  # statistics of its training set; it has no weights
        if training.objective == "joint":
            modules.append("motion_head")
    if model.lora_rank:
        modules.append(ADAPTERS)
    if training.train_backbone == "full":
        modules.append(BACKBONE_MODULE)
    return tuple(modules)


Model = TypeVar("Model", bound=MotionModel)


def outline(kind: type[Model], config: ModelConfig) -> Model:
    """A model with names and shapes only: no weights are loaded or allocated. Only the backbone's config and tokenizer
    are read.

    Raises:
        ValueError: a plug-in is unknown, an option does not fit, or config or tokenizer are missing.
    """
    options = {**config.backbone_options, "architecture_only": True}
    with init_empty_weights(include_buffers=False):
        return kind(replace(config, backbone_options=options))


def check_mode(mode: str) -> None:
    """Refuse modes that torch.compile does not have.

    Raises:
        ValueError: no such mode.
    """
    modes = torch._inductor.list_mode_options()
    if mode not in modes:
        raise ValueError(f"compile must be one of {', '.join(sorted(modes))}, found {mode!r}")
