"""Floating-point operations of a training sample, counted from the config: matrix products and attention, a product of
[m, k] and [k, n] being 2 m k n. Norms, activations and embeddings are left out; they are below 1%.

A trained module counts three times its forward pass (forward, and the gradients of inputs and of weights), a frozen one
once. A backbone with adapters counts twice, its vision part once: gradients pass through it to the adapters, and there
are none of its weights. Activation checkpointing and the causal mask change nothing here: model FLOPs are what the
model needs, not what a device happens to do (arXiv 2204.02311, appendix B). ``PEAKS`` are what a device could do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from lamp_model.action_heads.binned import BinnedActions
from lamp_model.config import TrainingConfig
from lamp_model.model import MotionModel, PolicyModel
from lamp_model.model_config import ActionConfig, ModelConfig, MotionConfig
from lamp_model.networks.action_transformer import TIME_CHANNELS


@dataclass(frozen=True)
class Device:
    """A kind of accelerator.

    Attributes:
        peak: dense bfloat16 FLOP/s with float32 accumulation, without sparsity.
        memory_gb: GiB.
        names: how ``torch.cuda.get_device_name`` names it: parts of the name, all of which it has.
    """

    peak: float
    memory_gb: float
    names: tuple[str, ...]


PEAKS = {
    # Vendors' data sheets: H100 and H200 (SXM5 989, PCIe 756), A100 (312), L40S (362), L4 (121), A10G (70), Ada
    # whitepaper for the RTX 4090 (165.2 with float32 accumulation), B200 (2,250).
    "b200": Device(2250e12, 180.0, ("B200",)),
    "h200": Device(989e12, 141.0, ("H200",)),
    "h100-pcie": Device(756e12, 80.0, ("H100", "PCIe")),
    "h100": Device(989e12, 80.0, ("H100",)),
    "a100-80gb": Device(312e12, 80.0, ("A100", "80GB")),
    "a100": Device(312e12, 40.0, ("A100",)),
    "l40s": Device(362e12, 48.0, ("L40S",)),
    "l4": Device(121e12, 24.0, ("L4",)),
    "a10g": Device(70e12, 24.0, ("A10G",)),
    "rtx4090": Device(165.2e12, 24.0, ("RTX 4090",)),
}
"""By name, the more specific first. Memory is the nominal size, of which a driver leaves about 97%."""


def device_of(name: str) -> Device | None:
    """The kind of a GPU by its name; None for one that is not in ``PEAKS``."""
    words = name.replace("-", " ").split()
    for device in PEAKS.values():
        if all(part in name if " " in part else any(word.startswith(part) for word in words) for part in device.names):
            return device
    return None


def linear(inputs: int, outputs: int, tokens: int = 1) -> int:
    """A linear layer on so many tokens."""
    return 2 * inputs * outputs * tokens


def attention(queries: int, keys: int, width: int) -> int:
    """Scores and the weighted sum, over all heads together."""
    return 4 * queries * keys * width


def conditioning_flops(config: MotionConfig, feature_width: int, tokens: int, words: int) -> int:
    """The Motion Expert's conditioning, once for all evaluations.

    Args:
        words: number of conditioning tokens.
    """
    count = linear(feature_width, config.width, tokens) + linear(config.width, config.width, words)
    if config.feature_summary:
        slots = config.conditioning_tokens * config.feature_summary
        count += linear(feature_width, config.feature_summary, tokens) + linear(slots, config.width)
    return count


def evaluation_flops(config: MotionConfig, words: int) -> int:
    """One evaluation of the Motion Expert, without its conditioning."""
    width, motion = config.width, config.tokens
    sequence = words + motion
    values = config.patch_size**2 * config.channels
    block = 2 * linear(width, 6 * width)  # both adaptive norms, once a sample
    block += linear(width, 4 * width, sequence) + attention(sequence, sequence, width)
    block += 2 * linear(width, 4 * width, sequence)
    count = linear(values, width, motion) + linear(width, values, motion)
    count += linear(config.time_channels, width) + linear(width, width) + linear(width, 2 * width)
    return count + config.layers * block


def motion_flops(config: ModelConfig, feature_width: int, tokens: int, evaluations: int = 1) -> int:
    """The Motion Expert's conditioning and so many evaluations."""
    words = config.motion.conditioning_tokens if config.padding == "repeat" else tokens
    count = conditioning_flops(config.motion, feature_width, tokens, words)
    return count + evaluations * evaluation_flops(config.motion, words)


def action_flops(config: ActionConfig, feature_width: int, tokens: int, inputs: int, outputs: int) -> int:
    """The Action Expert's transformer, trained on one chunk."""
    width, chunk = config.width, config.chunk
    sequence = chunk + tokens
    count = linear(feature_width, width, tokens) + linear(inputs, width, chunk) + linear(width, outputs, chunk)
    for layer in range(config.layers):
        asking = chunk if layer == config.layers - 1 else sequence
        count += linear(width, 3 * width, sequence) + attention(asking, sequence, width)
        count += linear(width, width, asking) + 2 * linear(width, config.mlp_ratio * width, asking)
    return count


def fusion_flops(name: str, options: Mapping[str, object], width: int, motion: MotionConfig, tokens: int) -> int | None:
    """The Motion Guidance; None for a fusion of another package, which is not known here."""
    if name == "add":
        return linear(motion.width, width)
    if name == "concat":
        return linear(width + motion.width, width, tokens) + linear(width, width, tokens)
    if name not in ("gated", "gated-tokens"):
        return None
    layer = linear(motion.width, width, motion.tokens) + linear(width, 2 * width, tokens)
    layer += linear(width, 2 * width, motion.tokens) + attention(tokens, motion.tokens, width)
    if name == "gated":
        return layer
    layers = options.get("layers", 1)
    return (layer + linear(width, 1, tokens)) * (layers if isinstance(layers, int) else 1)


def forward_flops(model: MotionModel, tokens: int) -> dict[str, int]:
    """FLOPs of one forward pass of each module for one sample in training; ``vision`` and ``language`` are the
    backbone's. ``motion_head`` is one conditioning with one evaluation.

    Args:
        model: may be an outline without weights.
        tokens: L of the features.
    """
    config, backbone = model.config, model.qwen_vl_interface
    found = dict(backbone.forward_flops(tokens, len(config.cameras)))
    if config.guided:
        found["motion_head"] = motion_flops(config, backbone.width, tokens)
    if isinstance(model, PolicyModel):
        if config.guided:
            fused = fusion_flops(config.fusion, config.fusion_options, backbone.width, config.motion, tokens)
            found["motion_guidance"] = _by_size(model.motion_guidance, tokens) if fused is None else fused
        found["action_model"] = _head_flops(model, tokens)
    return found


def _head_flops(model: PolicyModel, tokens: int) -> int:
    sizes, width, head = model.config.action, model.qwen_vl_interface.width, model.action_model
    inputs, outputs = sizes.action_size + TIME_CHANNELS + sizes.state_size, sizes.action_size
    if isinstance(head, BinnedActions):
        inputs, outputs = sizes.state_size, sizes.action_size * head.bins
    elif model.config.action_head != "flow-matching":
        return _by_size(head, tokens + sizes.chunk)
    return action_flops(sizes, width, tokens, inputs, outputs)


def _by_size(module: object, tokens: int) -> int:
    """An estimate for a module of another package: every weight is used once a token."""
    assert isinstance(module, nn.Module)
    return 2 * tokens * sum(parameter.numel() for parameter in module.parameters())


def sample_flops(model: MotionModel, training: TrainingConfig, tokens: int) -> dict[str, int]:
    """Model FLOPs of one training sample, forward and backward, by module as in ``forward_flops``."""
    forward, config = forward_flops(model, tokens), model.config
    factors = dict.fromkeys(forward, 3)
    learns_backbone = {"lora": (1, 2), "full": (3, 3)}
    mode = "lora" if config.lora_rank else training.train_backbone
    factors["vision"], factors["language"] = learns_backbone.get(mode, (1, 1))
    found = {name: count * factors[name] for name, count in forward.items()}
    if training.stage == 2 and config.guided:
        evaluations = config.motion.guidance_steps + 1
        found["motion_head"] = motion_flops(config, model.qwen_vl_interface.width, tokens, evaluations)
        if training.objective == "joint":
            found["motion_head"] += 3 * forward["motion_head"]
    return found
