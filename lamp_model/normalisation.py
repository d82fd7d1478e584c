"""States and actions to [-1, 1] and back, by the minimum and maximum of each dimension over the data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float


@dataclass(frozen=True)
class Range:
    """Minimum and maximum of each dimension.

    A dimension without span becomes 0 and comes back as its one value.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or any(a > b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError("a range needs as many minima as maxima, and no minimum above its maximum")

    @property
    def size(self) -> int:
        """Number of dimensions."""
        return len(self.low)

    def normalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """To [-1, 1] within the range; values outside it are not clipped."""
        low, span = self._bounds(values)
        return torch.where(span > 0, 2 * (values - low) / span.clamp(min=1e-12) - 1, 0)

    def denormalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """Back from [-1, 1], clipped to it first: an action beyond what the data hold is never sent."""
        low, span = self._bounds(values)
        return low + (values.clamp(-1, 1) + 1) / 2 * span

    def _bounds(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if values.shape[-1] != self.size:
            raise ValueError(f"expected {self.size} dimensions, found {values.shape[-1]}")
        low = values.new_tensor(self.low)
        return low, values.new_tensor(self.high) - low


def range_of(statistics: Mapping[str, Any], name: str) -> Range:
    """The range of ``state`` or ``action`` in a build's statistics.

    Raises:
        ValueError: the statistics lack it.
    """
    try:
        return Range(tuple(map(float, statistics[name]["min"])), tuple(map(float, statistics[name]["max"])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"the statistics of the data have no minimum and maximum of {name!r}") from error
