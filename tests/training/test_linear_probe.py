"""The linear probe against what is known in closed form."""

import numpy as np
import torch

from lamp_model.training.linear_probe import STRENGTHS, Ridge, chosen_strength, inner_products, predict


def test_the_dual_form_is_ridge_regression():
    g = torch.Generator().manual_seed(0)
    x, new, y = torch.randn(12, 40, generator=g), torch.randn(3, 40, generator=g), torch.randn(12, 2, generator=g)
    strength = 0.1
    gram = x @ x.T
    found = predict(Ridge(gram).weights(np.arange(12), new @ x.T, strength), y)
    ridge = strength * gram.diagonal().mean()
    weights = torch.linalg.solve(x.T @ x + ridge * torch.eye(40), x.T @ (y - y.mean(0)))
    torch.testing.assert_close(found, new @ weights + y.mean(0), rtol=1e-3, atol=1e-4)


def test_blocks_add_up():
    x, y = torch.randn(5, 12), torch.randn(4, 12)
    torch.testing.assert_close(inner_products(x.split(5, dim=1), y.split(5, dim=1)), x @ y.T)


def test_the_strength_is_chosen_on_episodes_that_are_not_fitted():
    """Where the target is noise, the strongest ridge is best; where it is linear, the weakest."""
    g = torch.Generator().manual_seed(1)
    x, noise = torch.randn(60, 20, generator=g), torch.randn(60, 1, generator=g)
    linear = x @ torch.randn(20, 1, generator=g)
    episodes = np.repeat(np.arange(10), 6)

    def choice(target):
        def score(rows, numbers):
            return float(((rows - target[torch.from_numpy(numbers)]) ** 2).mean())

        return chosen_strength(Ridge(x @ x.T), episodes.tolist(), target, score)

    assert choice(noise) == max(STRENGTHS) and choice(linear) == min(STRENGTHS)
    assert chosen_strength(Ridge(x @ x.T), [0] * 60, linear, lambda *_: 0.0) == STRENGTHS[1]


def test_of_one_sample_the_probe_knows_its_motion_and_nothing_else():
    """Standardised over itself its features are all zero."""
    ridge, target = Ridge(torch.zeros(1, 1)), torch.tensor([[1.0, 2.0]])
    assert torch.equal(predict(ridge.weights(np.array([0]), torch.zeros(3, 1), 0.01), target), target.expand(3, 2))
