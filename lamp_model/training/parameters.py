"""Selects, checks and describes the trained parameters."""

from typing import Any

from torch import nn

from lamp_model.networks.lora import ADAPTERS, BACKBONE_MODULE, module_of


def set_learning(model: nn.Module, modules: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Make the named modules of a model trainable and freeze everything else, dropout included.

    Parameters that were built frozen (weights that the chosen mode never reads) stay frozen.

    Returns:
        The learning parameters by name.
    """
    if BACKBONE_MODULE in modules:
        backbone: Any = model.get_submodule(BACKBONE_MODULE)
        for parameter in backbone.feature_parameters().values():
            parameter.requires_grad_(True)
    learning = {n: p for n, p in model.named_parameters() if module_of(n) in modules and p.requires_grad}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    for parameter in learning.values():
        parameter.requires_grad_(True)
    training_mode(model, modules)
    check_learning(model, learning, modules)
    return learning


def training_mode(model: nn.Module, modules: tuple[str, ...]) -> None:
    """Set training mode for the trained modules only; dropout in a frozen module would add noise to the guidance.

    The backbone stays in evaluation mode even where it learns: its features are then the same function in training and
    inference, and adapters have no dropout.
    """
    model.eval()
    for name in set(modules) - {ADAPTERS, BACKBONE_MODULE}:
        model.get_submodule(name).train()


def check_learning(model: nn.Module, learning: dict[str, nn.Parameter], modules: tuple[str, ...]) -> None:
    """Assert that exactly these parameters learn and that everything else is in evaluation mode.

    Raises:
        AssertionError: something else would learn, or a frozen module is in training mode. This is a bug.
    """
    found = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if found != set(learning) or not learning:
        raise AssertionError(f"other parameters would learn than were chosen: {sorted(found ^ set(learning))[:5]}")
    for name, module in model.named_modules():
        if name and name.split(".")[0] not in modules and module.training:
            raise AssertionError(f"{name} is frozen but in training mode")


def describe_learning(model: nn.Module, learning: dict[str, nn.Parameter]) -> str:
    """One line: which modules learn and which are frozen, with their numbers of parameters."""
    counts: dict[str, dict[bool, int]] = {}
    for name, parameter in model.named_parameters():
        count = counts.setdefault(module_of(name), {True: 0, False: 0})
        count[name in learning] += parameter.numel()
    learns = [f"{name} {_millions(c[True])}" for name, c in counts.items() if c[True]]
    frozen = [f"{name} {_millions(c[False])}" for name, c in counts.items() if c[False]]
    return f"learns: {', '.join(learns)}; frozen: {', '.join(frozen) or 'nothing'}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
