"""The linear probe: ridge regression from the frozen features to the motion, the baseline that a Motion Expert must
beat to be useful."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Ridge strengths, relative to the mean squared length of a sample's features."""
LEFT_OUT = 5
"""Episodes of the training set, at most a fifth of them, on which the strength is chosen."""
LOOKED_AT = 4
"""Steps of the motion on which the strength is chosen, spread evenly."""

Score = Callable[[Float[torch.Tensor, "N R"], Int[np.ndarray, " N"]], float]
"""(predicted rows, their numbers) to an error, smaller is better."""


class Ridge:
    """Ridge regression in its dual form, because there are many more features than samples.

    The features must be standardised over the fitted samples; a constant is added.
    """

    def __init__(self, gram: Float[torch.Tensor, "N N"]):
        """Take the inner products of all samples to be fitted."""
        self.gram = gram.double()
        # A single sample is all zeros after standardising; then every strength predicts the mean motion.
        self._scale = float(self.gram.diagonal().mean()) or 1.0

    def weights(
        self, rows: Int[np.ndarray, " n"], inner: Float[torch.Tensor, "m n"], strength: float
    ) -> Float[torch.Tensor, "m n"]:
        """The weight of each fitted row in a prediction, in addition to the mean of all fitted rows.

        Args:
            rows: numbers of the samples that are fitted.
            inner: inner products of new samples with these.
        """
        fitted = self.gram[rows][:, rows].clone()
        fitted.diagonal().add_(strength * self._scale)
        factor = torch.linalg.cholesky(fitted)
        return torch.cholesky_solve(inner.double().T.contiguous(), factor).T.float()


def predict(weights: Float[torch.Tensor, "m n"], target: Float[torch.Tensor, "n R"]) -> Float[torch.Tensor, "m R"]:
    """Predictions of new samples from the targets of those that were fitted."""
    mean = target.mean(0)
    return weights @ (target - mean) + mean


def chosen_strength(ridge: Ridge, episodes: Sequence[int], target: Float[torch.Tensor, "N R"], score: Score) -> float:
    """The strength with the lowest error on a few held-out episodes when the others are fitted; the middle one where
    there is only one episode."""
    numbers = np.unique(np.asarray(episodes))
    count = min(LEFT_OUT, len(numbers) // 5 or len(numbers) - 1)
    if count < 1:
        return STRENGTHS[1]
    picked = np.random.default_rng(0).permutation(numbers)[:count]
    judged = np.flatnonzero(np.isin(episodes, picked))
    fitted = np.flatnonzero(~np.isin(episodes, picked))
    inner = ridge.gram[judged][:, fitted]
    errors = {
        s: score(predict(ridge.weights(fitted, inner, s), target[torch.from_numpy(fitted)]), judged) for s in STRENGTHS
    }
    return min(errors, key=errors.__getitem__)


def inner_products(
    left: Iterable[Float[torch.Tensor, "n _"]], right: Iterable[Float[torch.Tensor, "m _"]]
) -> Float[torch.Tensor, "n m"]:
    """Inner products of two sets of samples whose features come block by block."""
    total = None
    for a, b in zip(left, right, strict=True):
        product = a @ b.T
        total = product if total is None else total.add_(product)
    assert total is not None, "features have at least one token"
    return total
