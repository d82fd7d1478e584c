"""Low-rank adapters (LoRA, arXiv 2106.09685) in an otherwise frozen backbone, and the module of each weight."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from lamp_model.model_config import LORA_MODULES

ADAPTERS, BACKBONE_MODULE = "adapters", "qwen_vl_interface"
"""Name for all adapters of the backbone, used like the name of a module of the model; and the backbone's own."""
FACTOR_A, FACTOR_B = ".lora_A.default.weight", ".lora_B.default.weight"
"""Ends of the names of an adapter's two factors: the weight gains B A."""


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


def module_of(name: str) -> str:
    """The module of the model that a parameter or a buffer belongs to: the first word of its name, or ``adapters``."""
    return ADAPTERS if is_adapter(name) else name.split(".", 1)[0]


def plain_name(name: str) -> str:
    """The name that a weight has without adapters around it."""
    return name.replace(".base_layer", "")


def add_adapters(language_model: nn.Module, rank: int, modules: Sequence[str] = LORA_MODULES) -> None:
    """Add adapters to all linear layers of a language model whose last names are among ``modules``, in place.

    Initially they have no effect: one of the two factors is zero. Their scale is 1 and they have no dropout.

    Raises:
        ValueError: the model has no layer of such a name, or one is narrower than the rank.
    """
    from peft import LoraConfig, inject_adapter_in_model

    layers = {name: m for name, m in language_model.named_modules() if isinstance(m, nn.Linear)}
    names = [name for name in layers if name.rsplit(".", 1)[-1] in modules]
    known = sorted({name.rsplit(".", 1)[-1] for name in layers})
    for module in modules:
        if module not in known:
            raise ValueError(
                f"adapters cannot go into {module}: {type(language_model).__name__} has no linear layer of that name; "
                f"give --lora-modules with some of {', '.join(known)}"
            )
    narrowest = min(min(layers[name].weight.shape) for name in names)
    if rank > narrowest:
        raise ValueError(f"lora-rank must not be above the {narrowest} of the narrowest layer, found {rank}")
    # Full names, so that layers of the same name in a vision transformer are not matched.
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=names, lora_dropout=0.0, bias="none")
    inject_adapter_in_model(config, language_model)


@torch.no_grad()
def add_factors(weights: dict[str, torch.Tensor], adapters: Mapping[str, torch.Tensor]) -> None:
    """Add adapters to the weights beside which they stand, in place: W + B A, computed in float32 and rounded to the
    precision of W.

    Args:
        weights: by plain name.
        adapters: both factors of each, by name.

    Raises:
        KeyError: a weight or a factor is missing.
    """
    for name in adapters:
        if name.endswith(FACTOR_A):
            beside = name.removesuffix(FACTOR_A)
            gain = adapters[beside + FACTOR_B].float() @ adapters[name].float()
            weight = weights[f"{beside}.weight"]
            weight.copy_(weight.float() + gain.to(weight.device))
