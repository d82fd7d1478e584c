"""Exact quantiles of more numbers than fit into memory, by counting in two passes. The order of the data does not
matter.

The bits of a float32 can be mapped to integers that sort as the numbers do. The first pass counts by the upper 16 bits
and so finds the bucket of each wanted rank; the second counts the lower 16 bits of those buckets only.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, UInt32

HALF = 16
BUCKETS = 1 << HALF
SIGN = np.uint32(1 << 31)

Batches = Callable[[], Iterable[Float32[np.ndarray, "_ _"]]]
"""Gives all values [N, D] batch by batch; called twice."""


def exact_quantiles(batches: Batches, shares: Sequence[float]) -> Float[np.ndarray, "Q D"]:
    """Quantiles of each dimension, interpolated linearly between neighbours as ``numpy.quantile`` does.

    Raises:
        ValueError: there are no values.
    """
    upper = _upper_counts(batches())
    if upper is None:
        raise ValueError("there are no values to take quantiles of")
    count, size = int(upper[0].sum()), len(upper)
    places = np.asarray(shares, np.float64) * (count - 1)
    below = np.floor(places).astype(np.int64)
    ranks = np.unique([below, np.minimum(below + 1, count - 1)])
    ends = np.cumsum(upper, axis=1)
    bucket_of = {(d, r): int(np.searchsorted(ends[d], r, side="right")) for d in range(size) for r in ranks.tolist()}
    lower = _lower_counts(batches(), {(d, bucket) for (d, _), bucket in bucket_of.items()})
    found = np.empty((len(ranks), size))
    for (d, rank), bucket in bucket_of.items():
        before = int(ends[d, bucket] - upper[d, bucket])
        low = int(np.searchsorted(np.cumsum(lower[d, bucket]), rank - before, side="right"))
        found[np.searchsorted(ranks, rank), d] = _number(bucket << HALF | low)
    low = found[np.searchsorted(ranks, below)]
    high = found[np.searchsorted(ranks, np.minimum(below + 1, count - 1))]
    return low + (high - low) * (places - below)[:, None]


def _upper_counts(batches: Iterable[np.ndarray]) -> Int[np.ndarray, "D B"] | None:
    counts = None
    for values in batches:
        if counts is None:
            counts = np.zeros((values.shape[1], BUCKETS), np.int64)
        for d, keys in enumerate(_keys(values).T):
            counts[d] += np.bincount(keys >> HALF, minlength=BUCKETS)
    return counts if counts is not None and counts.any() else None


def _lower_counts(
    batches: Iterable[np.ndarray], wanted: set[tuple[int, int]]
) -> dict[tuple[int, int], Int[np.ndarray, " B"]]:
    counts = {key: np.zeros(BUCKETS, np.int64) for key in wanted}
    for values in batches:
        keys = _keys(values)
        for d, bucket in counts:
            inside = keys[:, d][keys[:, d] >> HALF == bucket]
            counts[d, bucket] += np.bincount(inside & (BUCKETS - 1), minlength=BUCKETS)
    return counts


def _keys(values: Float32[np.ndarray, "N D"]) -> UInt32[np.ndarray, "N D"]:
    """Integers that sort as the values do."""
    bits = np.ascontiguousarray(values + np.float32(0)).view(np.uint32)  # adding zero makes -0 the same as 0
    return bits ^ np.where(bits & SIGN, np.uint32(0xFFFFFFFF), SIGN)


def _number(key: int) -> float:
    bits = np.uint32(key) ^ (SIGN if key & int(SIGN) else np.uint32(0xFFFFFFFF))
    return float(np.array(bits, np.uint32).view(np.float32))
