"""States and actions to [-1, 1] and back, by the minimum and maximum of each dimension over the data set.

``Range`` is used for this project's runs. The published checkpoints treat the gripper separately: ``PublishedState``
and ``PublishedAction``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float

HEIGHT = 2
"""Index of z in a state that begins with the end effector's position."""


@runtime_checkable
class Normaliser(Protocol):
    """Converts between the convention of the data and the network's normalised values."""

    @property
    def size(self) -> int:
        """Number of dimensions."""
        ...

    def normalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """To the network's normalised values."""
        ...

    def denormalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """Back to the convention of the data."""
        ...


@dataclass(frozen=True)
class Range:
    """Minimum and maximum of each dimension; both, and their difference, are finite in float32.

    A constant dimension is normalised to 0 and denormalised to its constant value.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or any(a > b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError("a range needs as many minima as maxima, and no minimum above its maximum")
        low, high = torch.tensor(self.low, dtype=torch.float32), torch.tensor(self.high, dtype=torch.float32)
        if (
            not (high - low).isfinite().all()
        ):  # NaN passes every comparison, and an infinite span makes NaN of any value
            pairs = zip(self.low, self.high, (high - low).isfinite().tolist(), strict=True)
            wrong = next(f"{a} to {b} in dimension {i}" for i, (a, b, fine) in enumerate(pairs) if not fine)
            raise ValueError(f"a range needs finite minima and maxima, found {wrong}")

    @property
    def size(self) -> int:
        """Number of dimensions."""
        return len(self.low)

    def normalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """To [-1, 1] within the range; values outside it are not clipped."""
        low, span = self._bounds(values)
        return torch.where(span > 0, 2 * (values - low) / span.clamp(min=1e-12) - 1, 0)

    def denormalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """Back from [-1, 1], clipped to it first, so that no action lies outside the range of the data."""
        low, span = self._bounds(values)
        return low + (values.clamp(-1, 1) + 1) / 2 * span

    def _bounds(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if values.shape[-1] != self.size:
            raise ValueError(f"expected {self.size} dimensions, found {values.shape[-1]}")
        low = values.new_tensor(self.low)
        return low, values.new_tensor(self.high) - low


@dataclass(frozen=True)
class Quantiles(Range):
    """The 1st and 99th percentile of each dimension, as in OpenVLA and Octo. Values outside are clipped, both when
    normalising and when denormalising.
    """

    def normalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """To [-1, 1], clipped."""
        return super().normalise(values).clamp(-1, 1)


@dataclass(frozen=True)
class PublishedAction:
    """Actions of the published checkpoints: the last dimension, the gripper, becomes 0 or 1 (1 above 0.5) both ways."""

    range: Range

    @property
    def size(self) -> int:
        """Number of dimensions."""
        return self.range.size

    def normalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """All but the gripper to [-1, 1]; not clipped."""
        return _binary_last(self.range.normalise(values), values)

    def denormalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """All but the gripper back, clipped first."""
        return _binary_last(self.range.denormalise(values), values)


@dataclass(frozen=True)
class PublishedState(PublishedAction):
    """States of the published checkpoints: the last dimension becomes (value > 0.5).

    Attributes:
        mask_z: z is set to 0 in the network's input.
    """

    mask_z: bool = False

    def normalise(self, values: Float[torch.Tensor, "*n D"]) -> Float[torch.Tensor, "*n D"]:
        """All but the last to [-1, 1]; not clipped."""
        seen = super().normalise(values)
        if self.mask_z:
            seen[..., HEIGHT] = 0
        return seen


def _binary_last(target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    target[..., -1] = (source[..., -1] > 0.5).to(target.dtype)
    return target


def range_of(statistics: Mapping[str, Any], name: str, normalisation: str = "min_max") -> Range:
    """The range of ``state`` or ``action`` in a build's statistics.

    Where both quantiles are equal (a gripper that is open in 99 of 100 frames), quantile normalisation would make the
    dimension constant; such a dimension keeps its minimum and maximum.

    Raises:
        ValueError: the statistics lack it.
    """
    try:
        found = {key: tuple(map(float, statistics[name][key])) for key in ("min", "max")}
        if normalisation == "min_max":
            return Range(found["min"], found["max"])
        found |= {key: tuple(map(float, statistics[name][key])) for key in ("q01", "q99")}
    except (KeyError, TypeError) as error:
        wanted = "minimum and maximum" if normalisation == "min_max" else "quantiles"
        raise ValueError(f"the statistics of the data have no {wanted} of {name!r}") from error
    bounds = zip(found["min"], found["max"], found["q01"], found["q99"], strict=True)
    pairs = [(q01, q99) if q01 < q99 else (low, high) for low, high, q01, q99 in bounds]
    return Quantiles(tuple(low for low, _ in pairs), tuple(high for _, high in pairs))
