"""What a vision-language backbone hands to everything after it, and the words it is asked with (paper, section 3.1)."""

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
"""The published prompt; the authors' checkpoints know no other."""


@dataclass(frozen=True)
class Features:
    """Last-layer hidden states of the backbone.

    Attributes:
        tokens: of no meaning where the mask is false.
        mask: true for tokens of the sample, false for padding. None: padding is treated like tokens, as the published
            code does.
    """

    tokens: Float[torch.Tensor, "B L D"]
    mask: Bool[torch.Tensor, "B L"] | None


@runtime_checkable
class Backbone(Protocol):
    """A frozen vision-language model. A plug-in's ``build(config)`` returns an ``nn.Module`` of this kind."""

    @property
    def width(self) -> int:
        """D, the width of the features."""
        ...

    @property
    def language_model(self) -> nn.Module:
        """The transformer that reads images and words together; adapters go into it."""
        ...

    def encode(self, images: Sequence[UInt8[torch.Tensor, "B H W 3"]], instructions: Sequence[str]) -> Features:
        """Features of upright RGB images (one tensor for each camera, on the model's device) and one text a sample."""
        ...

    def length(self, instruction: str, cameras: int) -> int:
        """L for one sample, without running the model."""
        ...

    def place(self, device: torch.device) -> None:
        """Move there, in the precision and with the attention that are right there."""
        ...

    def checkpoint_activations(self, on: bool) -> None:
        """Whether layers with adapters compute their activations again in the backward pass instead of keeping them."""
        ...

    def compile_forward(self, mode: str) -> None:
        """Let torch.compile make one graph of ``encode``'s forward pass; a backbone whose pass is not one stays as it
        is.
        """
        ...

    def save(self, folder: str) -> None:
        """Write weights and tokenizer so that ``build`` loads them with ``weights=folder``."""
        ...


@runtime_checkable
class Writer(Protocol):
    """A backbone that can also answer in words."""

    def generate(
        self, images: Sequence[UInt8[torch.Tensor, "B H W 3"]], questions: Sequence[str], most_tokens: int
    ) -> list[str]:
        """The likeliest words, one after the other, in answer to a question about each sample's images; the same every
        time.
        """
        ...


def check_prompt(template: object) -> None:
    """Refuse a prompt in which the instruction has no place: the model would never be told its task.

    Raises:
        ValueError: it is one.
    """
    if not isinstance(template, str) or "{instruction}" not in template:
        raise ValueError(f"the prompt must be a text with {{instruction}} in it, found {template!r}")


def prompt(instruction: str, template: str = PROMPT, tidy: bool = True) -> str:
    """The prompt for an instruction.

    Tidy, the instruction loses spaces around it and its full stop: the template has its own. The published code puts it
    in as it stands.
    """
    told = instruction.strip().rstrip(".") if tidy else instruction
    return template.replace("{instruction}", told)
