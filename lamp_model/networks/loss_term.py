"""A term of a loss as a sum and a count.

The mean over a step is the sum over its valid entries divided by their number. Micro-batches and ranks hold different
numbers of valid entries, so a mean of their means would be another loss; sums and counts add up exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int

Draws = Mapping[str, torch.Tensor]
"""Random numbers of a loss by name; the first axis of each is the place in the batch."""


@dataclass(frozen=True)
class LossTerm:
    """The mean of a loss over valid entries, as sum and count.

    Attributes:
        total: sum over the valid entries.
        count: number of valid entries.
        weight: factor of the mean in the whole loss.
    """

    total: Float[torch.Tensor, " "]
    count: Int[torch.Tensor, " "]
    weight: float = 1.0

    @property
    def mean(self) -> Float[torch.Tensor, " "]:
        """The mean over these entries alone, without the weight; 0 when there are none."""
        return self.total / self.count.clamp(min=1)

    def weighted(self, factor: float) -> "LossTerm":
        """With another factor on its weight."""
        return replace(self, weight=factor * self.weight)

    def share(self, count: int) -> Float[torch.Tensor, " "]:
        """The weighted contribution of these entries to the mean over ``count`` entries, of which they are a part."""
        return self.weight * self.total / max(count, 1)


def masked_term(values: Float[torch.Tensor, " *n"], mask: Bool[torch.Tensor, " *n"], weight: float = 1.0) -> LossTerm:
    """The term of the entries whose mask is true. Masked entries get no gradient."""
    return LossTerm(torch.where(mask, values, 0).sum(), mask.sum(), weight)


def whole_loss(terms: Mapping[str, LossTerm]) -> Float[torch.Tensor, " "]:
    """The loss of a batch that is no part of a larger one: the weighted sum of its terms' means."""
    return torch.stack([term.weight * term.mean for term in terms.values()]).sum()
