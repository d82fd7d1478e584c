"""Intervals and tests, against published and independently computed values."""

import math

import pytest

from lamp_model.closed_loop.statistics import bootstrap_mean, mcnemar, wilson


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    # Newcombe 1998, table I (method 3), and R's binom::binom.confint(method = "wilson").
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_published_intervals(successes, episodes, low, high):
    assert wilson(successes, episodes) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_exact_at_its_ends():
    for n in (1, 10, 500):
        assert wilson(0, n)[0] == 0.0 and wilson(n, n)[1] == 1.0
        for k in range(0, n + 1, max(1, n // 7)):
            low, high = wilson(k, n)
            assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low))
            assert low <= k / n <= high


@pytest.mark.parametrize(("successes", "episodes"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_impossible_counts(successes, episodes):
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, episodes)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    # 2 * pbinom(min, n, 1/2) in R, at most 1.
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 0.0625),
        (0, 6, 0.03125),
        (10, 2, 0.03857421875),
        (4, 4, 1.0),
        (3, 12, 0.03515625),
    ],
)
def test_mcnemar_is_the_exact_binomial_test(first, second, p):
    assert mcnemar(first, second) == pytest.approx(p)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_mcnemar_of_many_pairs_agrees_with_the_normal_approximation():
    # With continuity correction: z = (|b - c| - 1) / sqrt(b + c).
    z = (abs(540 - 460) - 1) / math.sqrt(1000)
    assert mcnemar(540, 460) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.02)


def test_bootstrap_covers_the_mean_and_repeats():
    values = [0.0, 0.25, 0.5, 1.0, 1.0, 0.75]
    low, high = bootstrap_mean(values)
    assert (low, high) == bootstrap_mean(values)
    assert 0 <= low < sum(values) / 6 < high <= 1
    assert bootstrap_mean([0.5] * 4) == (0.5, 0.5)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([])
