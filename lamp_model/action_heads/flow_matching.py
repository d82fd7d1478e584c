"""The paper's action head: the Action Expert, which generates action chunks by flow matching (section 3.4)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import nn

from lamp_model.features import Features
from lamp_model.model_config import ActionConfig
from lamp_model.networks.action_transformer import ActionExpert
from lamp_model.networks.flow_matching import action_path, integrate_action, sample_action_time
from lamp_model.networks.loss_term import Draws, LossTerm, masked_term


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

    def draw(self, batch: int, generator: torch.Generator) -> Draws:
        """Noise and flow times for the loss of a batch."""
        return {"noise": self.noise(batch, generator), "time": sample_action_time(batch, generator)}

    def loss(
        self,
        guided: Features,
        state: Float[torch.Tensor, "B S"],
        actions: Float[torch.Tensor, "B H A"],
        mask: Bool[torch.Tensor, "B H A"],
        draws: Draws,
        present: Bool[torch.Tensor, "B H"] | None = None,
    ) -> LossTerm:
        """Mean squared error of the velocity."""
        t = draws["time"]
        noisy, velocity = action_path(actions, draws["noise"], t)
        predicted = self.velocity(noisy, t, state, self.context(guided), present)
        return masked_term((predicted.float() - velocity) ** 2, mask)

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
