"""The base of all backbones: frozen unless asked otherwise, precision and attention by device, errors of loading."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging
from transformers.utils.import_utils import is_flash_attn_2_available

from lamp_model.errors import BadCheckpoint
from lamp_model.networks.lora import is_adapter, plain_name
from schemas.errors import first_line
from schemas.hub import hub_at_hand
from schemas.plugins import MissingWeights

AUTO = "auto"
"""Choose the fastest attention for the device."""


class FrozenBackbone(nn.Module):
    """The base of all backbones; see ``lamp_model.features.Backbone``."""

    def __init__(self, attention: str):
        super().__init__()
        self._attention = attention

    @property
    def language_model(self) -> PreTrainedModel:
        """The transformer that reads images and words together; adapters go into it."""
        raise NotImplementedError

    def feature_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters on which the features depend, by name, without adapters: what ``--train-backbone full``
        trains. A head that predicts words is none of them.
        """
        unused = self._unused()
        found = {n: p for n, p in self.named_parameters() if not is_adapter(n)}
        return {n: p for n, p in found.items() if not any(f".{part}." in f".{n}" for part in unused)}

    def forward_flops(self, tokens: int, cameras: int) -> dict[str, int]:
        """Floating-point operations of ``encode`` for one sample, an estimate: every weight but the embeddings is used
        once for every token, and those outside the language model count as ``vision``.
        """
        mine = dict(self.language_model.named_parameters())
        language = sum(p.numel() for n, p in mine.items() if p.ndim > 1 and "embed" not in n and not is_adapter(n))
        inside = {id(parameter) for parameter in mine.values()}
        vision = sum(p.numel() for p in self.feature_parameters().values() if id(p) not in inside and p.ndim > 1)
        return {"vision": 2 * vision * tokens, "language": 2 * language * tokens}

    def _unused(self) -> tuple[str, ...]:
        """Modules that features do not pass through, as parts of their names."""
        return ("lm_head",)

    def checkpoint_activations(self, on: bool) -> None:
        """Turn activation checkpointing of the language model's layers on or off. It is for a backbone that is trained
        or has adapters.

        transformers' own checkpointing works in training mode only, and the backbone is always in evaluation mode.
        """
        for layer in self.language_model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                vars(layer).pop("forward", None)
                if on:
                    layer.forward = _computed_again(layer.forward)

    def compile_forward(self, mode: str) -> None:
        """Compile the forward pass where it is a single graph. By default this does nothing: transformers' own forward
        passes are no single graph, because they read lengths and masks back from the device."""

    def place(self, device: torch.device, trained: bool = False) -> None:
        """Move to a device, with its precision (bfloat16 on a GPU, float32 on a CPU) and its attention.

        Args:
            trained: all weights are trained: they are float32 on a GPU too, because steps of a small rate are lost in
                bfloat16, and the attention is torch's, since flash-attn takes no float32.
        """
        self.to_device(device, torch.bfloat16 if device.type == "cuda" and not trained else torch.float32)
        if self._attention == AUTO:
            for module in self.modules():
                if isinstance(module, PreTrainedModel):
                    module.set_attn_implementation("sdpa" if trained else best_attention(device))

    def to_device(self, device: torch.device, precision: torch.dtype) -> None:
        """Move one weight at a time, so that 16-bit weights on disk reach the GPU without a 32-bit copy.

        Adapters are trained and stay in float32. Buffers keep their precision: rotary frequencies in 16 bits would
        have errors of whole radians at distant tokens.
        """
        for name, parameter in self.named_parameters():
            parameter.data = parameter.data.to(device, torch.float32 if is_adapter(name) else precision)
        for module in self.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))


def _computed_again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def computed(*inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)
        return checkpoint(forward, *inputs, use_reentrant=False, **options)

    return computed


def first_attention(attention: str) -> str:
    """The attention implementation to build with; for ``auto``, ``place`` chooses again."""
    return "sdpa" if attention == AUTO else attention


def best_attention(device: torch.device) -> str:
    """Flash attention on a GPU where it is installed, else torch's own."""
    return "flash_attention_2" if device.type == "cuda" and is_flash_attn_2_available() else "sdpa"


@contextmanager
def loading(weights: str) -> Iterator[None]:
    """Translate errors of transformers while a backbone is loaded.

    Raises:
        MissingWeights: transformers did not find the model or could not download it.
    """
    shown = logging.is_progress_bar_enabled()
    if Path(weights).is_dir():
        logging.disable_progress_bar()  # show a progress bar for downloads only, not for local files
    try:
        with nullcontext() if Path(weights).is_dir() else hub_at_hand():
            yield
    except (OSError, ValueError) as error:
        if isinstance(error, MissingWeights | BadCheckpoint):
            raise
        raise MissingWeights(
            f"the backbone's weights {weights} could not be loaded (they are a folder here, or a name on the Hugging "
            f"Face hub): {first_line(error)}"
        ) from error
    finally:
        if shown:
            logging.enable_progress_bar()


@torch.no_grad()
def likeliest_words(
    model: PreTrainedModel, tokenizer: Any, inputs: Mapping[str, torch.Tensor], most_tokens: int
) -> list[str]:
    """Generate text greedily, whatever the model's own generation settings are."""
    ends = model.generation_config.eos_token_id if model.generation_config else None
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=most_tokens,
        eos_token_id=tokenizer.eos_token_id if ends is None else ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    speaker: Any = model
    made = speaker.generate(**inputs, generation_config=settings)
    return tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def plain_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A model's weights by the names that they have without adapters."""
    return {plain_name(n): t for n, t in model.state_dict().items() if not is_adapter(n)}
