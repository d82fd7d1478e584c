"""Where the model runs, and in which precision: bfloat16 on a GPU, float32 on a CPU."""

import torch
from torch import nn


def choose_device(name: str) -> torch.device:
    """A device by name; ``auto`` takes a GPU when there is one.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, found {name!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name} was asked for, but {torch.cuda.device_count()} GPUs can be used here")
    return device


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where that is what the hardware is for."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def round_weights_once(model: nn.Module) -> None:
    """Store in bfloat16 the weights of linear layers and attention, for a model that learns no more.

    They are what ``autocast`` rounds at every use (it remembers only weights that learn): the same numbers, without the work. Norms,
    positions and gates stay in float32, as autocast leaves them.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.bfloat16()
        elif isinstance(module, nn.MultiheadAttention):
            for parameter in (module.in_proj_weight, module.in_proj_bias):
                if parameter is not None:
                    parameter.data = parameter.data.bfloat16()
