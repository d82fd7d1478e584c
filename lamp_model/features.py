"""The features of a vision-language backbone, its interface, and its prompt (paper, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, UInt8
from torch import nn

PROMPT = (
    "Your task is {instruction}. To identify the key objects for your task. "
    "Locate their bounding boxes in [x1,y1,x2,y2] format."
)
"""The published prompt; the authors' checkpoints were trained with no other."""


@dataclass(frozen=True)
class Features:
    """Last-layer hidden states of the backbone.

    Attributes:
        tokens: undefined where the mask is false.
        mask: true for tokens of the sample, false for padding. None: padding is treated like tokens, as in the
            published code.
    """

    tokens: Float[torch.Tensor, "B L D"]
    mask: Bool[torch.Tensor, "B L"] | None


@runtime_checkable
class Backbone(Protocol):
    """A vision-language model. A plug-in's ``build(config)`` returns an ``nn.Module`` that implements it."""

    @property
    def width(self) -> int:
        """D, the width of the features."""
        ...

    @property
    def language_model(self) -> nn.Module:
        """The transformer that reads images and words together; adapters go into it."""
        ...

    def encode(self, images: Sequence[UInt8[torch.Tensor, "B H W 3"]], instructions: Sequence[str]) -> Features:
        """Features of upright RGB images (one tensor for each camera, on the model's device), one text per sample."""
        ...

    def length(self, instruction: str, cameras: int) -> int:
        """L for one sample, without running the model."""
        ...

    def place(self, device: torch.device, trained: bool = False) -> None:
        """Move to a device, with the precision and the attention for that device, and for training all weights."""
        ...

    def forward_flops(self, tokens: int, cameras: int) -> dict[str, int]:
        """Floating-point operations of ``encode`` for one sample of L tokens: ``vision`` and ``language``."""
        ...

    def feature_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters on which the features depend, by name, without adapters."""
        ...

    def checkpoint_activations(self, on: bool) -> None:
        """Turn activation checkpointing of layers that are trained or have adapters on or off."""
        ...

    def compile_forward(self, mode: str) -> None:
        """Compile the forward pass of ``encode`` where it is a single graph; other backbones are left unchanged."""
        ...

    def save(self, folder: str) -> None:
        """Write weights and tokenizer so that ``build`` loads them with ``weights=folder``."""
        ...


@runtime_checkable
class Writer(Protocol):
    """A backbone that can also generate text."""

    def generate(
        self, images: Sequence[UInt8[torch.Tensor, "B H W 3"]], questions: Sequence[str], most_tokens: int
    ) -> list[str]:
        """Answer a question about each sample's images by greedy decoding, which is deterministic."""
        ...


def check_prompt(template: object) -> None:
    """Refuse a prompt template without ``{instruction}``: the model would not get its task.

    Raises:
        ValueError: the template is not valid.
    """
    if not isinstance(template, str) or "{instruction}" not in template:
        raise ValueError(f"the prompt must be a text with {{instruction}} in it, found {template!r}")


def prompt(instruction: str, template: str = PROMPT, tidy: bool = True) -> str:
    """The prompt for an instruction.

    With ``tidy``, surrounding spaces and the final full stop of the instruction are removed, because the template has
    its own. The published code inserts the instruction unchanged.
    """
    told = instruction.strip().rstrip(".") if tidy else instruction
    return template.replace("{instruction}", told)
