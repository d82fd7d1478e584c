"""The paper's action head: the Action Expert, which generates action chunks by flow matching (section 3.4)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import nn

from lamp_model.features import Features
from lamp_model.model_config import ActionConfig
from lamp_model.networks.action_transformer import ActionExpert
from lamp_model.networks.flow_matching import action_path, integrate_action, masked_mean, sample_action_time


@dataclass(frozen=True)
class Config:
    """Sizes; there are no other options."""

    sizes: ActionConfig = field(default_factory=ActionConfig)
    feature_width: int = 2560


class FlowMatching(ActionExpert):
    """See ``lamp_model.action_heads.ActionHead``; the names of its weights are those of the published checkpoints."""

    def noise(self, batch: int, generator: torch.Generator) -> Float[torch.Tensor, "B H A"]:
        """Gaussian noise at which the Euler steps begin."""
        shape = batch, self.config.chunk, self.config.action_size
        return torch.randn(shape, generator=generator, device=generator.device)

    def loss(
        self,
        guided: Features,
        state: Float[torch.Tensor, "B S"],
        actions: Float[torch.Tensor, "B H A"],
        mask: Bool[torch.Tensor, "B H A"],
        generator: torch.Generator,
        present: Bool[torch.Tensor, "B H"] | None = None,
    ) -> Float[torch.Tensor, " "]:
        """Mean squared error of the velocity."""
        noise = self.noise(len(actions), generator)
        t = sample_action_time(len(actions), generator)
        noisy, velocity = action_path(actions, noise, t)
        predicted = self.velocity(noisy, t, state, self.context(guided), present)
        return masked_mean((predicted.float() - velocity) ** 2, mask)

    def act(
        self, guided: Features, state: Float[torch.Tensor, "B S"], noise: Float[torch.Tensor, "B H A"] | None
    ) -> Float[torch.Tensor, "B H A"]:
        """An action chunk after ``denoising_steps`` Euler steps."""
        if noise is None:
            raise ValueError("flow matching starts from noise, and none was given")
        context = self.context(guided)

        def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
            return self.velocity(x, torch.full((len(x),), t, device=x.device), state, context)

        return integrate_action(velocity, noise, self.config.denoising_steps)


def build(config: Config) -> nn.Module:
    """Build the head from its config."""
    return FlowMatching(config.sizes, config.feature_width)
