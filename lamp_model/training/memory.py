"""GPU memory of training, by module, estimated without a GPU and without weights.

Parameters, gradients and the optimiser's state follow from shapes. Activations are those that autograd keeps for the
backward pass: each trained module runs forward on tensors without values, in bfloat16 as on a GPU, for one sample and
for two; the difference is what a sample keeps, and what both have is the bfloat16 copy of the trained weights that
autocast makes. Of a backbone that learns they are counted from its sizes. Attention is counted as fused, without the
scores; norms keep float32 on a GPU and bfloat16 here, hence ``MARGIN``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lamp_model.config import TrainingConfig
from lamp_model.features import Features
from lamp_model.model import MotionModel, PolicyModel, learning_modules
from lamp_model.networks.lora import ADAPTERS, BACKBONE_MODULE, module_of
from lamp_model.training.parameters import set_learning

MARGIN = 1.15
"""Norms in float32, masks of dropout, and blocks of the allocator: 15% of the activations."""
OVERHEAD_GB = 1.5
"""GiB of a device that are no tensors: its context, libraries' workspaces, fragmentation."""
MOMENTS, AVERAGE, STEP = 8, 4, 4
"""Bytes a trained weight: AdamW's two moments, the average of ``--ema``, and what the step itself takes for a while."""


@dataclass(frozen=True)
class ModuleMemory:
    """Bytes of one module, on one device.

    Attributes:
        parameters, trained: numbers of weights.
        weights: with the bfloat16 copies of what is trained.
        gradients, optimiser: of what is trained.
        sample: activations that are kept for a sample.
        working: the most that a frozen module takes for a sample while it runs.
    """

    name: str
    parameters: int
    trained: int
    weights: int
    gradients: int
    optimiser: int
    sample: int
    working: int

    @property
    def fixed(self) -> int:
        """What does not depend on the micro-batch."""
        return self.weights + self.gradients + self.optimiser


@dataclass(frozen=True)
class Memory:
    """Of all modules."""

    modules: tuple[ModuleMemory, ...]

    def total(self, micro_batch: int) -> int:
        """Bytes on one device."""
        kept = sum(module.sample for module in self.modules)
        working = max((module.working for module in self.modules), default=0)
        return sum(m.fixed for m in self.modules) + (kept + working) * micro_batch + int(OVERHEAD_GB * 2**30)

    def largest_micro_batch(self, limit: int) -> int:
        """The most samples at once that fit into so many bytes; 0 where not even one does."""
        a_sample = self.total(1) - self.total(0)
        return max(0, (limit - self.total(0)) // max(a_sample, 1))


def training_memory(model: MotionModel, training: TrainingConfig, tokens: int, shards: int = 1) -> Memory:
    """Memory of a stage.

    Args:
        model: an outline without weights (``lamp_model.model.outline``); it cannot be used for anything else after.
        tokens: L of the features.
        shards: devices between which weights, gradients and optimiser state are divided (FSDP), where the backbone
            learns.
    """
    modules = learning_modules(model.config, training)
    learning = set_learning(model, modules)
    model.checkpoint_activations(training.checkpoint_activations)
    counts: dict[str, list[int]] = {}
    for name, parameter in _once(model):
        count = counts.setdefault(module_of(name), [0, 0])
        count[0] += parameter.numel()
        count[1] += parameter.numel() if name in learning else 0
    divided = shards if training.train_backbone == "full" else 1
    kept = {name: _kept(model, name, training, tokens) for name in counts}
    state = MOMENTS + STEP + (AVERAGE if training.ema else 0)
    found = []
    for name, (parameters, trained) in counts.items():
        frozen_backbone = name == BACKBONE_MODULE and not trained
        copies, sample = kept[name]
        found.append(
            ModuleMemory(
                name,
                parameters,
                trained,
                weights=parameters * (2 if frozen_backbone else 4) // divided + copies,
                gradients=trained * 4 // divided,
                optimiser=trained * state // divided,
                sample=int(sample * MARGIN),
                working=0 if sample else _working(model, name, tokens),
            )
        )
    return Memory(tuple(found))


def _once(model: MotionModel) -> list[tuple[str, nn.Parameter]]:
    """The model's parameters without the head that predicts words: it is tied to the embeddings, or unused."""
    return [(name, p) for name, p in model.named_parameters() if "lm_head" not in name]


def _kept(model: MotionModel, name: str, training: TrainingConfig, tokens: int) -> tuple[int, int]:
    """(bytes of bfloat16 copies of weights, bytes of a sample's activations) of a module in the backward pass."""
    mode = "lora" if model.config.lora_rank else training.train_backbone
    if name in (BACKBONE_MODULE, ADAPTERS):
        learns = mode == "full" if name == BACKBONE_MODULE else True
        sample = _backbone_activations(model, training, tokens, mode) if learns else 0
        trained = sum(p.numel() for n, p in _once(model) if module_of(n) == name and p.requires_grad)
        return 2 * trained if learns else 0, sample
    if name not in learning_modules(model.config, training):
        return 0, 0
    one, two = (_saved_bytes(model, name, tokens, batch) for batch in (1, 2))
    sample = two - one
    if training.checkpoint_activations and name in ("motion_head", "action_model"):
        # One block at a time is computed again in the backward pass.
        model.checkpoint_activations(False)
        layers = (model.config.motion if name == "motion_head" else model.config.action).layers
        whole = _saved_bytes(model, name, tokens, 2) - _saved_bytes(model, name, tokens, 1)
        model.checkpoint_activations(True)
        sample += whole // layers
    return max(2 * one - two, 0), sample


def _saved_bytes(model: MotionModel, name: str, tokens: int, batch: int) -> int:
    """Bytes that autograd keeps of a forward pass of a trained expert, without its own parameters."""
    module: Any = model.get_submodule(name)
    with FakeTensorMode(allow_non_fake_inputs=True):
        if next(module.parameters()).is_meta:
            module.to_empty(device="cpu")
        module.eval()  # torch has no fused attention with dropout on a CPU
        width, config = model.qwen_vl_interface.width, model.config
        features = Features(torch.zeros(batch, tokens, width), torch.ones(batch, tokens, dtype=torch.bool))
        if model.backbone_learns:
            features.tokens.requires_grad_()
        work: Callable[[], Any]
        if name == "motion_head":
            points, chance = (batch, config.motion.grid**2, config.motion.horizon), torch.Generator()
            motion, mask = torch.zeros(*points, 3), torch.ones(points, dtype=torch.bool)
            work = lambda: module.loss(features, motion, mask, module.draw(batch, chance))  # noqa: E731
        elif name == "motion_guidance":
            hidden = torch.zeros(batch, config.motion.tokens, config.motion.width)
            work = lambda: module(features.tokens, hidden)  # noqa: E731
        else:
            work = _head_work(model, features, batch)
        return saved_bytes(work)


def _head_work(model: MotionModel, features: Features, batch: int) -> Callable[[], Any]:
    assert isinstance(model, PolicyModel)
    sizes, head, chance = model.config.action, model.action_model, torch.Generator()
    actions, state = torch.zeros(batch, sizes.chunk, sizes.action_size), torch.zeros(batch, sizes.state_size)
    guided = Features(features.tokens.detach().requires_grad_(model.config.guided), features.mask)
    mask = torch.ones(actions.shape, dtype=torch.bool)
    return lambda: head.loss(guided, state, actions, mask, head.draw(batch, chance), mask[..., 0])


def saved_bytes(work: Callable[[], Any]) -> int:
    """Bytes of all tensors, each storage once, that autograd keeps of a computation in bfloat16; parameters and what
    has no gradient are not among them.
    """
    kept: dict[int, int] = {}
    held = []  # a storage that is freed could lend its number to another

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
            held.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        result = work()
    del result
    return sum(kept.values())


def _backbone_activations(model: MotionModel, training: TrainingConfig, tokens: int, mode: str) -> int:
    """Bytes of a sample, from the language model's sizes: of each layer the residual stream and both norms in float32
    beside their results, queries, keys and values before and after their rotation, and the feed-forward part's four
    tensors. Trained whole, its vision part keeps about 34 bytes for each channel of a patch (arXiv 2205.05198).
    """
    sizes: Any = model.qwen_vl_interface.language_model.config
    width = sizes.hidden_size
    head = getattr(sizes, "head_dim", None) or width // sizes.num_attention_heads
    queries = sizes.num_attention_heads * head
    keys = (getattr(sizes, "num_key_value_heads", None) or sizes.num_attention_heads) * head
    layer = tokens * (32 * width + 4 * (queries + 2 * keys) + 2 * queries + 8 * sizes.intermediate_size)
    if training.checkpoint_activations:
        language = sizes.num_hidden_layers * tokens * width * 4 + layer
    else:
        language = sizes.num_hidden_layers * layer
    if mode != "full":
        return language
    flops = model.qwen_vl_interface.forward_flops(tokens, len(model.config.cameras))
    # 24 FLOPs a weight-channel pair: a transformer's layer does about 24 w^2 for a token of width w and keeps 34 w.
    vision: Any = getattr(getattr(model.qwen_vl_interface, "model", None), "config", None)
    channels = getattr(getattr(vision, "vision_config", None), "hidden_size", width)
    return language + int(flops["vision"] / (24 * channels) * 34)


def _working(model: MotionModel, name: str, tokens: int) -> int:
    """Bytes for a sample of the largest moment of a frozen module."""
    if name == BACKBONE_MODULE:
        sizes: Any = model.qwen_vl_interface.language_model.config
        return tokens * 2 * (3 * sizes.intermediate_size + 6 * sizes.hidden_size)
    if name == "motion_head":
        motion = model.config.motion
        return (tokens + motion.tokens) * motion.width * 2 * 12
    return 0
