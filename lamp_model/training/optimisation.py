"""The optimiser's step: parameters in groups, the rate of a step, clipping, AdamW, averages, and its state by name."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import nn

from lamp_model.config import TrainingConfig
from lamp_model.errors import BadCheckpoint
from lamp_model.networks.lora import ADAPTERS, BACKBONE_MODULE, module_of
from lamp_model.training.averaging import averaged, update_averages
from lamp_model.training.distributed.replicas import divided_like, whole_tensor
from lamp_model.training.schedule import Schedule


class Optimisation:
    """AdamW with a schedule over the learning parameters.

    Attributes:
        learning: the learning parameters by name.
        rate: the learning rate of a step.
    """

    def __init__(self, learning: dict[str, nn.Parameter], config: TrainingConfig):
        self.learning, self.config = learning, config
        self.rate = Schedule(config)
        self._done = 0
        self.optimizer = torch.optim.AdamW(_groups(learning, config), lr=config.learning_rate, betas=config.betas)

    def set_rate(self, step: int) -> None:
        """Set the rate of a step in every group."""
        self._done = step
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group["share"]

    def norm(self) -> Float[torch.Tensor, " "]:
        """Norm of the whole gradient, on the device; the same on every rank."""
        gradients = [p.grad for p in self.learning.values() if p.grad is not None]
        return whole_tensor(torch.nn.utils.get_total_norm(gradients))

    def norms(self) -> dict[str, Float[torch.Tensor, " "]]:
        """Norms of the gradients of each module that learns, on the device; the same on every rank."""
        gradients: dict[str, list[torch.Tensor]] = {}
        for name, parameter in self.learning.items():
            if parameter.grad is not None:
                gradients.setdefault(module_of(name), []).append(parameter.grad)
        return {module: whole_tensor(torch.nn.utils.get_total_norm(found)) for module, found in gradients.items()}

    def step(self, norm: Float[torch.Tensor, " "]) -> None:
        """Clip to the config's norm, update the weights and their averages, and drop the gradients."""
        torch.nn.utils.clip_grads_with_norm_(list(self.learning.values()), self.config.clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.config.ema:
            update_averages(self.optimizer, self.config.ema, self._done + 1)

    def averaged(self) -> AbstractContextManager[bool]:
        """Within this the model holds the averages of its weights, where there are any; see ``averaging.averaged``."""
        return averaged(self.optimizer) if self.config.ema else nullcontext(False)

    def state(self) -> dict[str, torch.Tensor]:
        """The optimiser's state as ``<parameter>::<field>``; each rank's part where the model is sharded."""
        names = {id(parameter): name for name, parameter in self.learning.items()}
        return {
            f"{names[id(parameter)]}::{key}": value
            for parameter, state in self.optimizer.state.items()
            for key, value in state.items()
        }

    def load(self, state: Mapping[str, torch.Tensor], where: str) -> None:
        """Take over the state of a checkpoint.

        Raises:
            BadCheckpoint: it holds the state of a parameter that does not learn here.
        """
        for entry, value in state.items():
            name, _, key = entry.rpartition("::")
            if name not in self.learning:
                raise BadCheckpoint(f"{where} holds the optimiser's state of {name!r}, which does not learn here")
            parameter = self.learning[name]
            # AdamW counts its steps on the CPU and keeps its moments beside the weights.
            self.optimizer.state[parameter][key] = value if key == "step" else divided_like(value, parameter)


def _groups(learning: Mapping[str, nn.Parameter], config: TrainingConfig) -> list[dict]:
    """Parameters by weight decay (matrices only) and by their share of the rate: the backbone, and in stage 2 the
    Motion Expert, have rates of their own."""
    backbone = config.rate_of_backbone / config.learning_rate
    shares: dict[str, float] = {ADAPTERS: backbone, BACKBONE_MODULE: backbone}
    if config.stage == 2:
        shares["motion_head"] = config.motion_rate / config.learning_rate
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in learning.items():
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((decay, shares.get(module_of(name), 1.0)), []).append(parameter)
    return [{"params": g, "weight_decay": decay, "share": share} for (decay, share), g in groups.items()]
