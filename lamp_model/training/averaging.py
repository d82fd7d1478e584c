"""The exponential moving average (EMA) of the trained weights: steadier than the last step's, whose noise it averages.

A parameter's average is an entry of its optimiser state beside AdamW's moments, so checkpoints hold it and bring it
back without knowing of it. It starts as the weights after the first step. The decay of step n is at most
(1 + n) / (10 + n), so that the first weights, which are random, are soon forgotten.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

AVERAGE = "average"
"""Its name in a parameter's optimiser state."""


@torch.no_grad()
def update_averages(optimizer: torch.optim.Optimizer, decay: float, done: int) -> None:
    """Take the weights after the optimiser's step into their averages, which are float32.

    Args:
        done: optimiser steps done, this one included.
    """
    averages, weights = [], []
    for parameter in _stepped(optimizer):
        state = optimizer.state[parameter]
        if AVERAGE not in state:
            state[AVERAGE] = parameter.detach().float().clone()
        else:
            averages.append(state[AVERAGE])
            weights.append(parameter.detach().float())
    if averages:
        share = 1 - min(decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(averages, weights, share)  # pyright: ignore[reportPrivateImportUsage]


@contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[bool]:
    """Within this the parameters hold their averages, after it their own values again, bit for bit. Yields whether
    there are any averages.
    """
    kept = []
    with torch.no_grad():
        for parameter in _stepped(optimizer):
            if AVERAGE in optimizer.state[parameter]:
                kept.append((parameter, parameter.detach().clone()))
                parameter.copy_(optimizer.state[parameter][AVERAGE])
    try:
        yield bool(kept)
    finally:
        with torch.no_grad():
            for parameter, own in kept:
                parameter.copy_(own)


def _stepped(optimizer: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    """The parameters that have optimiser state; one without a gradient so far has none."""
    return [p for group in optimizer.param_groups for p in group["params"] if optimizer.state.get(p)]
