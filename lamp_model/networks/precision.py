"""In which precision the model runs: bfloat16 on a GPU, float32 on a CPU."""

import torch
from torch import nn


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 where that is what the hardware is for."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def round_weights_once(model: nn.Module) -> None:
    """Store in bfloat16 the weights of linear layers and attention, for a model that learns no more.

    They are what ``autocast`` rounds at every use (it remembers only weights that learn): the same numbers, without the
    work. Norms, positions and gates stay in float32, as autocast leaves them.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.bfloat16()
        elif isinstance(module, nn.MultiheadAttention):
            for parameter in (module.in_proj_weight, module.in_proj_bias):
                if parameter is not None:
                    parameter.data = parameter.data.bfloat16()
