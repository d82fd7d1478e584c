"""Action heads: from guided features to a chunk of actions. One module is one head (see ``schemas.plugins``).

A module defines a frozen ``Config`` with at least ``sizes`` (``ActionConfig``) and ``feature_width``, and
``build(config)``, which returns an ``nn.Module`` that implements ``ActionHead``. Actions and states are normalised:
[-1, 1] covers the range of the data.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float

from lamp_model.features import Features
from lamp_model.model_config import ActionConfig
from lamp_model.networks.loss_term import Draws, LossTerm
from schemas.plugins import configure, load_plugin


@runtime_checkable
class ActionHead(Protocol):
    """Predicts actions; trained in stage 2."""

    def noise(self, batch: int, generator: torch.Generator) -> Float[torch.Tensor, "B H A"] | None:
        """The initial noise of a prediction, on the generator's device. A deterministic head returns None and draws
        nothing.
        """
        ...

    def draw(self, batch: int, generator: torch.Generator) -> Draws:
        """Random numbers for the loss of a batch, on the generator's device."""
        ...

    def loss(
        self,
        guided: Features,
        state: Float[torch.Tensor, "B S"],
        actions: Float[torch.Tensor, "B H A"],
        mask: Bool[torch.Tensor, "B H A"],
        draws: Draws,
        present: Bool[torch.Tensor, "B H"] | None = None,
    ) -> LossTerm:
        """The loss over action dimensions whose mask is true.

        Args:
            draws: the result of ``draw`` for these samples; there is no other randomness but dropout.
            present: false for actions after the episode's end, which no token may attend to; None lets padded actions
                be attended to, as the authors' code does.
        """
        ...

    def act(
        self, guided: Features, state: Float[torch.Tensor, "B S"], noise: Float[torch.Tensor, "B H A"] | None
    ) -> Float[torch.Tensor, "B H A"]:
        """An action chunk, starting from the result of ``noise``."""
        ...

    def compile(self, *, mode: str, fullgraph: bool) -> None:
        """Compile the forward pass of ``act`` as one graph (``nn.Module.compile``)."""
        ...


def make_action_head(name: str, options: Mapping[str, Any], sizes: ActionConfig, feature_width: int) -> ActionHead:
    """An action head of these sizes on features of this width.

    Raises:
        ValueError: there is no such head, or an option does not fit.
    """
    filled = {"sizes": sizes, "feature_width": feature_width}
    return load_plugin(__name__, name).build(configure(__name__, name, {**options, **filled}))
