"""Exact quantiles of more numbers than fit into memory, by counting in two passes. The order of the data does not
matter.

The bits of a float32 can be mapped to integers that sort as the numbers do. The first pass counts by the upper 16 bits
and so finds the bucket of each wanted rank; the second counts the lower 16 bits of those buckets only.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float32, Int, UInt32

HALF = 16
BUCKETS = 1 << HALF
SIGN = np.uint32(1 << 31)


class ExactQuantiles:
    """Quantiles of each dimension of values that are counted twice: all of them first, then all of them again.

    Args:
        shares: the wanted quantiles, from 0 to 1.
    """

    def __init__(self, shares: Sequence[float]):
        self.shares = np.asarray(shares, np.float64)
        self.upper: Int[np.ndarray, "D B"] | None = None

    def count(self, values: Float32[np.ndarray, "N D"]) -> None:
        """First pass: count some values."""
        if self.upper is None:
            self.upper = np.zeros((values.shape[1], BUCKETS), np.int64)
        for d, keys in enumerate(_keys(values).T):
            self.upper[d] += np.bincount(keys >> HALF, minlength=BUCKETS)

    def count_again(self, values: Float32[np.ndarray, "N D"]) -> None:
        """Second pass: count some values that the first has counted."""
        keys = _keys(values)
        for (d, bucket), counts in self._lower.items():
            inside = keys[:, d][keys[:, d] >> HALF == bucket]
            counts += np.bincount(inside & (BUCKETS - 1), minlength=BUCKETS)

    def quantiles(self) -> Float[np.ndarray, "Q D"]:
        """The quantiles, interpolated linearly between neighbours as ``numpy.quantile`` does.

        Raises:
            ValueError: there are no values.
        """
        places, below, ranks = self._places
        found = np.empty((len(ranks), len(self._counted)))
        for (d, rank), bucket in self._bucket_of.items():
            before = int(self._ends[d, bucket] - self._counted[d, bucket])
            low = int(np.searchsorted(np.cumsum(self._lower[d, bucket]), rank - before, side="right"))
            found[np.searchsorted(ranks, rank), d] = _number(bucket << HALF | low)
        low = found[np.searchsorted(ranks, below)]
        high = found[np.searchsorted(ranks, np.minimum(below + 1, ranks[-1]))]
        return low + (high - low) * (places - below)[:, None]

    @property
    def _counted(self) -> Int[np.ndarray, "D B"]:
        if self.upper is None or not self.upper.any():
            raise ValueError("there are no values to take quantiles of")
        return self.upper

    @cached_property
    def _ends(self) -> Int[np.ndarray, "D B"]:
        return np.cumsum(self._counted, axis=1)

    @cached_property
    def _places(self) -> tuple[Float[np.ndarray, " Q"], Int[np.ndarray, " Q"], Int[np.ndarray, " R"]]:
        """Where each quantile lies among the sorted values, the rank below it, and all ranks that are needed."""
        count = int(self._counted[0].sum())
        places = self.shares * (count - 1)
        below = np.floor(places).astype(np.int64)
        return places, below, np.unique([below, np.minimum(below + 1, count - 1)])

    @cached_property
    def _bucket_of(self) -> dict[tuple[int, int], int]:
        """The bucket of each dimension and rank."""
        ranks, ends = self._places[2].tolist(), self._ends
        return {(d, r): int(np.searchsorted(ends[d], r, side="right")) for d in range(len(ends)) for r in ranks}

    @cached_property
    def _lower(self) -> dict[tuple[int, int], Int[np.ndarray, " B"]]:
        """Counts of the lower bits, by dimension and bucket."""
        return {(d, bucket): np.zeros(BUCKETS, np.int64) for (d, _), bucket in self._bucket_of.items()}


def _keys(values: Float32[np.ndarray, "N D"]) -> UInt32[np.ndarray, "N D"]:
    """Integers that sort as the values do."""
    bits = np.ascontiguousarray(values + np.float32(0)).view(np.uint32)  # adding zero makes -0 the same as 0
    return bits ^ np.where(bits & SIGN, np.uint32(0xFFFFFFFF), SIGN)


def _number(key: int) -> float:
    bits = np.uint32(key) ^ (SIGN if key & int(SIGN) else np.uint32(0xFFFFFFFF))
    return float(np.array(bits, np.uint32).view(np.float32))
