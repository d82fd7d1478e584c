"""Low-rank adapters (LoRA, arXiv 2106.09685) in an otherwise frozen backbone, and the module of each weight."""

from torch import nn

ADAPTERS = "adapters"
"""Name for all adapters of the backbone, used like the name of a module of the model."""
PROJECTIONS = ("q_proj", "k_proj")
"""Query and key projections: adapters change the attention weights, not the values."""


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


def module_of(name: str) -> str:
    """The module of the model that a parameter or a buffer belongs to: the first word of its name, or ``adapters``."""
    return ADAPTERS if is_adapter(name) else name.split(".", 1)[0]


def add_adapters(language_model: nn.Module, rank: int) -> None:
    """Add adapters to all query and key projections of a language model, in place.

    Initially they have no effect: one of the two factors is zero. Their scale is 1 and they have no dropout.

    Raises:
        ValueError: the model has no such projections, or they are narrower than the rank.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = [name for name, _ in language_model.named_modules() if name.rsplit(".", 1)[-1] in PROJECTIONS]
    if not names:
        raise ValueError(
            f"adapters go beside {' and '.join(PROJECTIONS)}, and {type(language_model).__name__} has none: "
            "take another backbone, or leave --lora-rank out"
        )
    weights = [language_model.get_submodule(name).get_parameter("weight") for name in names]
    narrowest = min(min(weight.shape) for weight in weights)
    if rank > narrowest:
        raise ValueError(f"lora-rank must not be above the {narrowest} of the narrowest projection, found {rank}")
    # Full names, so that projections of the same name in a vision transformer are not matched.
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=names, lora_dropout=0.0, bias="none")
    inject_adapter_in_model(config, language_model)
