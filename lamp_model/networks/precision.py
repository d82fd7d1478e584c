"""The precision of the model: bfloat16 on a GPU, float32 on a CPU."""

import torch
from torch import nn


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 on a GPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def round_weights_once(model: nn.Module) -> None:
    """Store the weights of linear layers and attention in bfloat16, for a model that is not trained any more.

    ``autocast`` rounds these weights at every use (it caches only weights with gradients). Rounding them once gives the
    same values without that cost. Norms, positions and gates stay in float32, as with autocast.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.bfloat16()
        elif isinstance(module, nn.MultiheadAttention):
            for parameter in (module.in_proj_weight, module.in_proj_bias):
                if parameter is not None:
                    parameter.data = parameter.data.bfloat16()
