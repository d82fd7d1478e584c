"""Pushes that take the hand off its way, so that demonstrations show how to come back (DART, Laskey et al. 2017)."""

import numpy as np

SHORTEST, LONGEST = 3, 8
"""Steps that a push lasts; the hand moves by about 2 cm in each."""
UPWARDS = 0.5
"""A push goes along the table, and upwards by at most this share of it: never down into things."""


class Pushes:
    """When and where the hand is pushed in one attempt."""

    def __init__(self, rate: float, seed: int):
        """``rate`` is the mean number of pushes in 100 steps in which one may begin; ``seed`` is the attempt's."""
        self._rate, self._chance = rate, np.random.default_rng([seed, 1])
        self._left, self._along = 0, np.zeros(3)

    def next(self) -> np.ndarray | None:
        """What the hand does in the next step in place of the controller's movement (3: an action, -1 to 1); None:
        nothing pushes."""
        if self._left == 0:
            if self._chance.random() >= self._rate / 100:
                return None
            around = self._chance.uniform(0, 2 * np.pi)
            self._along = np.array([np.cos(around), np.sin(around), self._chance.uniform(0, UPWARDS)])
            self._left = int(self._chance.integers(SHORTEST, LONGEST, endpoint=True))
        self._left -= 1
        return self._along
