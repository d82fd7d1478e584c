"""The optimiser's step: parameters in groups, the rate of a step, clipping, AdamW and its state by name."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import nn

from lamp_model.config import TrainingConfig
from lamp_model.errors import BadCheckpoint
from lamp_model.networks.lora import module_of
from lamp_model.training.distributed.replicas import divided_like, whole_tensor
from lamp_model.training.parameters import CosineRate


class Optimisation:
    """AdamW with a schedule over the learning parameters.

    Attributes:
        learning: the learning parameters by name.
        rate: the learning rate of a step.
    """

    def __init__(self, learning: dict[str, nn.Parameter], config: TrainingConfig):
        self.learning, self.config = learning, config
        self.rate = CosineRate(config.steps, config.learning_rate, config.minimum_rate)
        self.optimizer = torch.optim.AdamW(_groups(learning, config), lr=config.learning_rate, betas=config.betas)

    def set_rate(self, step: int) -> None:
        """Set the rate of a step in every group."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group["share"]

    def norm(self) -> Float[torch.Tensor, " "]:
        """Norm of the whole gradient, on the device; the same on every rank."""
        gradients = [p.grad for p in self.learning.values() if p.grad is not None]
        return whole_tensor(torch.nn.utils.get_total_norm(gradients))

    def step(self, norm: Float[torch.Tensor, " "]) -> None:
        """Clip to the config's norm, update the weights, and drop the gradients."""
        torch.nn.utils.clip_grads_with_norm_(list(self.learning.values()), self.config.clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

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
    """Parameters by weight decay (matrices only) and by their share of the rate: where the objective is joint, the
    Motion Expert's is its own."""
    shares = {"motion_head": config.motion_rate / config.learning_rate} if config.stage == 2 else {}
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in learning.items():
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((decay, shares.get(module_of(name), 1.0)), []).append(parameter)
    return [{"params": g, "weight_decay": decay, "share": share} for (decay, share), g in groups.items()]
