"""Action heads: how guided features become a chunk of actions. One module is one head (see ``schemas.plugins``).

A module defines a frozen ``Config`` with at least ``sizes`` (``ActionConfig``) and ``feature_width``, and
``build(config)``, which returns an ``nn.Module`` of the kind ``ActionHead``. Actions and states are normalised here,
[-1, 1] within the range of the data.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float

from lamp_model.features import Features


@runtime_checkable
class ActionHead(Protocol):
    """What stage 2 trains to act, and what acts."""

    def noise(self, batch: int, generator: torch.Generator) -> Float[torch.Tensor, "B H A"] | None:
        """What a prediction starts from, on the generator's device; None, and nothing drawn, where nothing is left to
        chance.
        """
        ...

    def loss(
        self,
        guided: Features,
        state: Float[torch.Tensor, "B S"],
        actions: Float[torch.Tensor, "B H A"],
        mask: Bool[torch.Tensor, "B H A"],
        generator: torch.Generator,
    ) -> Float[torch.Tensor, " "]:
        """The loss over numbers of actions whose mask is true; the generator decides all chance."""
        ...

    def act(
        self, guided: Features, state: Float[torch.Tensor, "B S"], noise: Float[torch.Tensor, "B H A"] | None
    ) -> Float[torch.Tensor, "B H A"]:
        """An action chunk from what ``noise`` gave."""
        ...
