"""Flow matching against answers that are known in closed form."""

import pytest
import torch

from lamp_model.networks.flow_matching import (
    action_path,
    integrate_action,
    integrate_motion,
    motion_path,
    motion_timestep,
    sample_action_time,
    sample_motion_time,
)


def test_paths_begin_and_end_where_the_conventions_say():
    data, noise = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    zero, one = torch.zeros(3), torch.ones(3)
    assert torch.equal(motion_path(data, noise, zero)[0], noise) and torch.equal(motion_path(data, noise, one)[0], data)
    assert torch.equal(action_path(data, noise, zero)[0], data) and torch.equal(action_path(data, noise, one)[0], noise)


@pytest.mark.parametrize("path", [motion_path, action_path])
def test_velocity_is_the_paths_derivative(path):
    data, noise = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    t, h = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), 1e-4
    slope = (path(data, noise, t + h)[0] - path(data, noise, t - h)[0]) / (2 * h)
    torch.testing.assert_close(path(data, noise, t)[1], slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_euler_is_exact_where_the_data_are_one_point(steps):
    """All paths to one point are straight, so Euler reaches it in any number of steps."""
    data, noise = torch.randn(2, 6), torch.randn(2, 6)
    motion = integrate_motion(lambda x, t: (data - x) / (1 - t), noise, steps)
    action = integrate_action(lambda x, t: (x - data) / t, noise, steps)
    torch.testing.assert_close(motion, data, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(action, data, rtol=1e-4, atol=1e-5)


def test_euler_turns_noise_into_a_gaussian_of_known_width():
    """For data N(m, s^2) the marginal velocity is known; the flow maps noise z to m + s z."""
    mean, width = 0.7, 0.3

    def motion_velocity(x, t):
        variance = (1 - t) ** 2 + (t * width) ** 2
        return mean + (t * width**2 - (1 - t)) / variance * (x - t * mean)

    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)[None]
    expected = mean + width * noise
    torch.testing.assert_close(integrate_motion(motion_velocity, noise, 4000), expected, rtol=0, atol=2e-3)
    backwards = integrate_action(lambda x, t: -motion_velocity(x, 1 - t), noise, 4000)
    torch.testing.assert_close(backwards, expected, rtol=0, atol=2e-3)


def test_integration_visits_the_published_times():
    times = []
    integrate_motion(lambda x, t: times.append(motion_timestep(t)) or x, torch.zeros(1), 10)
    assert times == [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]
    one = integrate_motion(lambda x, t: torch.full_like(x, 3.0 + t), torch.ones(1), 10, first=1)
    torch.testing.assert_close(one, torch.tensor([1.3]))
    times.clear()
    integrate_action(lambda x, t: times.append(round(t, 6)) or x, torch.zeros(1), 10)
    assert times == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


def test_training_times_have_their_distributions():
    generator = torch.Generator().manual_seed(0)
    action = sample_action_time(100_000, generator)
    assert action.min() >= 0.001 and action.max() <= 1.0
    for x in (0.1, 0.5, 0.9):  # Beta(1.5, 1) has the distribution function x^1.5
        assert abs(float(((action - 0.001) / 0.999 <= x).float().mean()) - x**1.5) < 0.01
    motion = sample_motion_time(100_000, generator)
    assert motion.min() >= 0 and motion.max() < 1 and abs(float(motion.mean()) - 0.5) < 0.01


@pytest.mark.parametrize(("steps", "first"), [(0, None), (1, -1), (1, 2)])
def test_nonsense_is_refused(steps, first):
    with pytest.raises(ValueError, match="at least 1 step"):
        integrate_motion(lambda x, t: x, torch.zeros(1), steps, first)
