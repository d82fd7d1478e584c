"""Intervals and tests for success rates."""

import math
from collections.abc import Sequence

import numpy as np

NORMAL_95 = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""
RESAMPLES = 10_000


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """The 95% interval of a success rate (Wilson 1927), without correction for continuity.

    Raises:
        ValueError: there is no episode, or more successes than episodes.
    """
    if not 0 <= successes <= episodes or episodes < 1:
        raise ValueError(f"an interval needs 0 to n successes of n > 0 episodes, found {successes} of {episodes}")
    rate, z2 = successes / episodes, NORMAL_95**2
    centre = (rate + z2 / (2 * episodes)) / (1 + z2 / episodes)
    half = NORMAL_95 * math.sqrt(rate * (1 - rate) / episodes + z2 / (4 * episodes**2)) / (1 + z2 / episodes)
    # At 0 and n the bound is exactly 0 or 1; rounding must not leave it beside that.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == episodes else centre + half
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test.

    Args:
        only_first: pairs in which only the first policy succeeded.
        only_second: pairs in which only the second did.

    Returns:
        The probability, if both were equally good, of a split at least as uneven; 1 where they never differed.
    """
    differing = only_first + only_second
    if only_first < 0 or only_second < 0:
        raise ValueError(f"counts of pairs are not negative, found {only_first} and {only_second}")
    if differing == 0:
        return 1.0
    tail = sum(math.comb(differing, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**differing)


def bootstrap_mean(values: Sequence[float]) -> tuple[float, float]:
    """The 95% percentile interval of a mean, for progress values that are neither 0/1 nor normal.

    The resamples are drawn with a fixed seed, so the same values give the same interval.

    Raises:
        ValueError: there is no value.
    """
    if not len(values):
        raise ValueError("an interval needs at least one value")
    array = np.asarray(values, float)
    drawn = np.random.default_rng(0).integers(len(array), size=(RESAMPLES, len(array)))
    low, high = np.percentile(array[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
