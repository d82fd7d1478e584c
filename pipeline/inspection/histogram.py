"""Exact percentiles of quantised values over any number of samples, in fixed memory."""

import numpy as np

REACH = 1 << 16
"""Quanta counted on either side of zero: the difference of two int16 displacements fits."""


class Histogram:
    """Counts of values that are multiples of a quantum; other values are counted at the nearest multiple.

    Shards hold displacements in whole quanta, so percentiles of steps are exact for any number of them. The minimum and
    the maximum are kept unrounded.
    """

    def __init__(self, quantum: float):
        self.quantum = quantum
        self.least, self.greatest = np.inf, -np.inf
        self._counts = np.zeros(2 * REACH + 1, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count values of any shape, in the unit of the quantum."""
        values = np.asarray(values, np.float64).ravel()
        if values.size == 0:
            return
        self.least, self.greatest = min(self.least, values.min()), max(self.greatest, values.max())
        quanta = np.clip(np.rint(values / self.quantum), -REACH, REACH).astype(np.int64)
        low = int(quanta.min())
        counts = np.bincount(quanta - low)
        self._counts[low + REACH : low + REACH + len(counts)] += counts

    def __len__(self) -> int:
        return int(self._counts.sum())

    def shares(self, edges: np.ndarray) -> np.ndarray:
        """Share of all values in each bin [edge, next edge), each value at its multiple; zeros without values."""
        total = len(self)
        places = np.clip(np.ceil(np.asarray(edges) / self.quantum - 1e-6), -REACH, REACH + 1).astype(np.int64) + REACH
        below = np.concatenate([[0], np.cumsum(self._counts)])[places]
        return np.diff(below) / max(total, 1)

    def percentile(self, percent: float) -> float | None:
        """The smallest counted value that at least ``percent`` of all values do not exceed; None without values."""
        total = len(self)
        if total == 0:
            return None
        if percent in (0, 100):
            return float(self.greatest if percent else self.least)
        rank = max(1, int(np.ceil(total * percent / 100)))
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(np.clip((place - REACH) * self.quantum, self.least, self.greatest))

    def percentiles(self, percents: tuple[int, ...]) -> dict[str, float | None]:
        """Percentiles by name (``min``, ``p1``, ..., ``max``), rounded to six decimals to remove float32 error."""
        names = {0: "min", 100: "max"}
        found = {names.get(p, f"p{p}"): self.percentile(p) for p in percents}
        return {name: None if value is None else round(value, 6) + 0.0 for name, value in found.items()}
