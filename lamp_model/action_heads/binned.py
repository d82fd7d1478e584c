"""Binned actions (OpenVLA's, arXiv 2406.09246): each dimension of an action is one of 256 classes, trained with
cross-entropy.

OpenVLA's language model predicts the classes one after the other. Here all dimensions of all actions of a chunk are
predicted in parallel: a chunk of 10 x 7 would take 70 passes otherwise, and arXiv 2502.19645 found that parallel
decoding loses nothing. The transformer is the same as the Action Expert's, so the two heads differ only in their
training target.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from torch.nn import functional

from lamp_model.features import Features
from lamp_model.model_config import ActionConfig, check_sizes
from lamp_model.networks.action_transformer import ActionTransformer
from lamp_model.networks.loss_term import Draws, LossTerm, masked_term


@dataclass(frozen=True)
class Config:
    """Sizes.

    Attributes:
        bins: number of equally wide bins from -1 to 1.
    """

    sizes: ActionConfig = field(default_factory=ActionConfig)
    feature_width: int = 2560
    bins: int = 256

    def __post_init__(self) -> None:
        check_sizes(self, ("bins",), counts=())
        if self.bins < 2:
            raise ValueError(f"binned actions need at least 2 bins, found {self.bins}")


def bin_of(actions: Float[torch.Tensor, " *n"], bins: int) -> Int[torch.Tensor, " *n"]:
    """The bin of a normalised action, counted from 0; values outside [-1, 1] are in the first or the last bin."""
    return ((actions.float() + 1) / 2 * bins).floor().clamp(0, bins - 1).long()


def centre_of(index: Int[torch.Tensor, " *n"], bins: int) -> Float[torch.Tensor, " *n"]:
    """The centre of a bin; the quantisation error is at most 1 / bins of an action's half range."""
    return (index.float() + 0.5) / bins * 2 - 1


class BinnedActions(ActionTransformer):
    """Predicts scores of the bins of a normalised action chunk from guided features and a normalised state."""

    def __init__(self, config: Config):
        sizes = config.sizes
        super().__init__(sizes, config.feature_width, sizes.state_size, sizes.action_size * config.bins)
        self.bins = config.bins

    def scores(
        self,
        guided: Features,
        state: Float[torch.Tensor, "B S"],
        present: Bool[torch.Tensor, "B H"] | None = None,
    ) -> Float[torch.Tensor, "B H A N"]:
        """Logits of the bins. Each action token gets the state; only its position embedding tells it its step."""
        chunk = self.config.chunk
        decoded = self(state[:, None].expand(-1, chunk, -1), self.context(guided), present)
        return decoded.unflatten(-1, (self.config.action_size, self.bins)).float()

    def noise(self, batch: int, generator: torch.Generator) -> None:
        """None: the likeliest bin is taken, so the head is deterministic."""
        return None

    def draw(self, batch: int, generator: torch.Generator) -> Draws:
        """Nothing: the loss has no random numbers."""
        return {}

    def loss(
        self,
        guided: Features,
        state: Float[torch.Tensor, "B S"],
        actions: Float[torch.Tensor, "B H A"],
        mask: Bool[torch.Tensor, "B H A"],
        draws: Draws,
        present: Bool[torch.Tensor, "B H"] | None = None,
    ) -> LossTerm:
        """Mean cross-entropy of the true bins."""
        scores = self.scores(guided, state, present).movedim(-1, 1)
        missed = functional.cross_entropy(scores, bin_of(actions, self.bins), reduction="none")
        return masked_term(missed, mask)

    def act(
        self, guided: Features, state: Float[torch.Tensor, "B S"], noise: Float[torch.Tensor, "B H A"] | None
    ) -> Float[torch.Tensor, "B H A"]:
        """The centres of the likeliest bins; NaN where the scores are not finite."""
        best = self.scores(guided, state).max(dim=-1)  # max treats NaN as the largest value
        return centre_of(best.indices, self.bins).masked_fill(~best.values.isfinite(), torch.nan)


def build(config: Config) -> nn.Module:
    """Build the head from its config."""
    return BinnedActions(config)
