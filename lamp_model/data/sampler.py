"""The order of samples: a pure function of (seed, epoch, position), for one build or a weighted mixture of several.

An epoch has as many positions as there are samples. Without weights every sample appears once. With weights each member
gets its share of the positions (rounded by largest remainders). A member's samples are drawn in its own shuffled order,
without replacement across epochs: each is drawn once before any is drawn again.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


class Order:
    """The order of samples that are numbered member by member.

    Attributes:
        counts: samples of each member.
        quotas: positions of each member in an epoch.
    """

    def __init__(self, seed: int, counts: Sequence[int], weights: Sequence[float] | None = None):
        """Compute the quotas.

        Raises:
            ValueError: a member with a weight has no samples.
        """
        if weights is not None and 0 in counts:
            raise ValueError(f"member {list(counts).index(0)} of the mixture has a weight and no samples to train on")
        self.seed, self.counts = seed, list(counts)
        self.quotas = self.counts if weights is None else quotas(sum(counts), weights)
        self._starts = np.cumsum([0, *self.quotas])
        self._bases = np.cumsum([0, *self.counts])
        self._epochs: dict[int, Int[np.ndarray, " N"]] = {}

    def __len__(self) -> int:
        return sum(self.counts)

    def at(self, epoch: int, position: int) -> int:
        """The sample (its index among all members' samples) at a position of an epoch."""
        return int(self._order(epoch)[position])

    def _order(self, epoch: int) -> Int[np.ndarray, " N"]:
        if epoch not in self._epochs:
            places = np.random.default_rng([self.seed, epoch]).permutation(len(self))
            order = np.empty_like(places)
            for member in range(len(self.counts)):
                first, last = self._starts[member : member + 2]
                mine = (places >= first) & (places < last)
                order[mine] = self._bases[member] + self._turns(member, epoch)[places[mine] - first]
            # A batch can span two epochs, and threads may still decode the previous one.
            self._epochs = {key: kept for key, kept in self._epochs.items() if key >= epoch - 1} | {epoch: order}
        return self._epochs[epoch]

    def _turns(self, member: int, epoch: int) -> Int[np.ndarray, " Q"]:
        """The samples of a member that are drawn in an epoch."""
        count, quota = self.counts[member], self.quotas[member]
        if quota == count:
            return np.arange(count)  # all of them; the epoch's permutation shuffles them
        drawn = epoch * quota + np.arange(quota)
        rounds, places = np.divmod(drawn, count)
        turns = np.empty(quota, np.int64)
        for number in np.unique(rounds):
            mine = rounds == number
            turns[mine] = np.random.default_rng([self.seed, int(number), member, 1]).permutation(count)[places[mine]]
        return turns


def quotas(total: int, weights: Sequence[float]) -> list[int]:
    """Integer shares of a total in proportion to weights. The largest remainders are rounded up; of equal ones, the
    first.
    """
    exact = np.asarray(weights, np.float64) / np.sum(weights) * total
    shares = np.floor(exact).astype(int)
    for member in np.argsort(-(exact - shares), kind="stable")[: total - shares.sum()]:
        shares[member] += 1
    return shares.tolist()
