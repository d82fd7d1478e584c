"""What takes the hand off its way, so that demonstrations show how to come back (DART, Laskey et al. 2017): pushes, now
and then and far, and sway, in every step and by little.
"""

import numpy as np

SHORTEST, LONGEST = 3, 8
"""Steps that a push lasts; the hand moves by about 2 cm in each."""
UPWARDS = 0.5
"""A push goes along the table, and upwards by at most this share of it: never down into things."""
SWAY_KEEPS = 0.8
"""Of a step's sway in the next step: it lasts some five steps, else the arm would not follow."""


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


class Sway:
    """Noise that is added to every movement, those that must end at a point too, but not while the hand rests."""

    def __init__(self, size: float, seed: int):
        """``size`` is its standard deviation in each direction, as an action (1 asks for 5 cm, and moves the hand by
        about 2 cm in a step); ``seed`` is the attempt's."""
        self._size, self._chance = size, np.random.default_rng([seed, 2])
        self._at = self._chance.normal(size=3)

    def next(self) -> np.ndarray | None:
        """What is added to the next step's movement (3); None: nothing."""
        if not self._size:
            return None
        self._at = SWAY_KEEPS * self._at + (1 - SWAY_KEEPS**2) ** 0.5 * self._chance.normal(size=3)
        return self._size * self._at
