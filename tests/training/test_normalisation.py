"""States and actions to [-1, 1] and back."""

import math

import pytest
import torch

from lamp_model.data.normalisation import Quantiles, Range, range_of

RANGE = Range((-2.0, 0.0, 5.0), (2.0, 1.0, 5.0))


def test_ends_and_middle():
    values = torch.tensor([[-2.0, 0.0, 5.0], [2.0, 1.0, 5.0], [0.0, 0.5, 5.0]])
    expected = torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(RANGE.normalise(values), expected)
    torch.testing.assert_close(RANGE.denormalise(expected), values)


def test_a_dimension_without_span_becomes_zero_and_comes_back():
    assert RANGE.normalise(torch.tensor([0.0, 0.0, 77.0]))[2] == 0
    assert RANGE.denormalise(torch.tensor([0.0, 0.0, 0.9]))[2] == 5


def test_inputs_are_not_clipped_and_outputs_are():
    assert RANGE.normalise(torch.tensor([4.0, 0.0, 5.0]))[0] == 2
    assert RANGE.denormalise(torch.tensor([9.0, 0.0, 0.0]))[0] == 2


def test_refusals():
    with pytest.raises(ValueError, match="expected 3 dimensions, found 2"):
        RANGE.normalise(torch.zeros(2))
    with pytest.raises(ValueError, match="no minimum and maximum of 'action'"):
        range_of({"state": {"min": [0], "max": [1]}}, "action")
    with pytest.raises(ValueError, match="no minimum above"):
        Range((1.0,), (0.0,))


@pytest.mark.parametrize("bounds", [(0.0, math.inf), (-math.inf, 0.0), (math.nan, 1.0), (0.0, math.nan), (-3e38, 3e38)])
def test_bounds_that_would_make_nan_of_an_action_are_refused(bounds):
    low, high = bounds
    for kind in (Range, Quantiles):
        with pytest.raises(ValueError, match=r"finite minima and maxima, found .* in dimension 1"):
            kind((0.0, low), (1.0, high))
    with pytest.raises(ValueError, match="finite"):
        range_of({"action": {"min": [low], "max": [high], "q01": [0], "q99": [0]}}, "action", "quantile")
