"""What a Motion Expert may be asked for: the same laws in every mode, and nothing changed in the published one."""

from dataclasses import replace

import pytest
import torch

from lamp_model.features import Features
from lamp_model.model_config import MotionConfig
from lamp_model.networks import motion_layout
from lamp_model.networks.conditioning import FeatureNorm, FeatureSummary
from lamp_model.networks.flow_matching import (
    integrate_motion,
    motion_estimate,
    motion_gain,
    motion_path,
    motion_velocity,
)
from lamp_model.networks.loss_term import whole_loss
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.networks.motion_loss import LossWeights, far_points

PUBLISHED = MotionConfig(
    layers=1, heads=2, head_dim=16, time_channels=32, patch_size=2, grid=4, horizon=8, conditioning_tokens=12
)
DATA = replace(PUBLISHED, motion_target="data")
SCALED = replace(DATA, motion_input="gain", motion_output="sigma")
ALL = replace(SCALED, feature_norm="index", feature_places="learned", feature_summary=4, steps_per_frame=0)
MODES = pytest.mark.parametrize("config", [PUBLISHED, DATA, SCALED, ALL])


def expert_of(config):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    expert = MotionExpert(config, feature_width=10).eval()
    torch.nn.init.normal_(expert.decoder.cogvideox.proj_out.weight, std=0.2)
    if config.scaled:
        expert.sigma.fill_(0.1)
    return expert.requires_grad_(False)


def features(batch=2, length=5):
    mask = torch.ones(batch, length, dtype=torch.bool)
    mask[0, 0] = False
    return Features(torch.randn(batch, length, 10, generator=torch.Generator().manual_seed(1)), mask)


def test_an_estimate_and_its_velocity_say_the_same():
    x, velocity = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    t = torch.tensor([0.0, 0.4, 0.9])
    torch.testing.assert_close(motion_velocity(x, motion_estimate(x, velocity, t), t), velocity, rtol=1e-4, atol=1e-5)
    data, noise = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    noisy, right = motion_path(data, noise, t)
    torch.testing.assert_close(motion_estimate(noisy, right, t), data, rtol=1e-4, atol=1e-5)


def test_the_gain_is_that_of_the_best_linear_estimate():
    """By regression of the data on the noisy state, at each time."""
    sigma, g = torch.tensor(0.2), torch.Generator().manual_seed(0)
    data, noise = sigma * torch.randn(200_000, generator=g), torch.randn(200_000, generator=g)
    assert motion_gain(torch.zeros(1), sigma).item() == 0
    for t in (0.3, 0.8, 0.95):
        noisy = (1 - t) * noise + t * data
        best = (noisy * data).mean() / (noisy**2).mean() / sigma
        torch.testing.assert_close(motion_gain(torch.tensor([t]), sigma)[0], best, rtol=0.05, atol=0.01)
    assert motion_gain(torch.ones(1), sigma).item() == pytest.approx(5)


@MODES
def test_a_network_that_gives_the_truth_rolls_out_to_it(config, monkeypatch):
    expert, seen = expert_of(config), features()
    truth, noise = torch.randn(expert.noise_shape(2)) * 0.1, torch.randn(expert.noise_shape(2))
    hidden = torch.zeros(2, config.tokens, config.width)

    def true(x, timestep, conditioning):
        given = truth if config.motion_target == "data" else truth - noise
        return (given / expert.sigma if config.motion_output == "sigma" else given), hidden

    monkeypatch.setattr(expert.decoder.cogvideox, "forward", true)
    expected = motion_layout.unpack(truth, config.packed_steps)
    for found in (expert.rollout(seen, noise), expert.first_estimate(seen, noise)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@MODES
def test_guidance_sees_the_state_after_the_rollouts_first_step(config):
    expert, seen = expert_of(config), features()
    noise, steps = torch.randn(expert.noise_shape(2)), config.denoising_steps
    states = []
    original = expert.decoder.cogvideox.forward

    def watched(x, timestep, conditioning):
        given, hidden = original(x, timestep, conditioning)
        states.append((x, timestep, hidden))
        return given, hidden

    expert.decoder.cogvideox.forward = watched
    found = expert.guidance_state(seen, noise)
    guided = states[-1]
    states.clear()
    expert.rollout(seen, noise)
    assert len(states) == steps
    for one, other in zip(states[1], guided, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(found, states[1][2])


@MODES
def test_the_first_estimate_is_where_the_first_velocity_points(config):
    expert, seen = expert_of(config), features()
    noise = torch.randn(expert.noise_shape(2))
    straight = integrate_motion(expert._velocity_at(expert.condition(seen)), noise, 1)
    found = expert.first_estimate(seen, noise)
    torch.testing.assert_close(motion_layout.unpack(straight, config.packed_steps), found, rtol=1e-4, atol=1e-5)


def test_in_the_gain_mode_the_first_evaluation_does_not_see_the_noise():
    expert, seen = expert_of(SCALED), features()
    one, two = (expert.first_estimate(seen, torch.randn(expert.noise_shape(2))) for _ in range(2))
    assert torch.equal(one, two)
    plain = expert_of(DATA)
    one, two = (plain.first_estimate(seen, torch.randn(plain.noise_shape(2))) for _ in range(2))
    assert not torch.allclose(one, two)


def test_the_published_mode_has_no_entry_more_and_the_same_loss():
    expert = expert_of(PUBLISHED)
    assert {name.split(".")[0] for name in expert.state_dict()} == {"vlm_proj", "decoder"}
    motion, mask = torch.randn(2, 16, 8, 3) * 0.01, torch.rand(2, 16, 8) < 0.8
    draws = expert.draw(2, torch.Generator().manual_seed(3))
    found = expert.loss(features(), motion, mask, draws)["motion"].mean
    g = torch.Generator().manual_seed(3)
    data = motion_layout.pack(motion_layout.normalise(motion))
    noise, t = torch.randn(data.shape, generator=g), torch.rand(2, generator=g)
    noisy, velocity = motion_path(data, noise, t)
    given = expert.decoder.cogvideox(noisy, (t * 1000).floor(), expert.condition(features()))[0]
    counted = motion_layout.pack(mask[..., None].expand_as(motion).float()).bool()
    expected = torch.where(counted, (given - velocity) ** 2, 0).sum() / counted.sum()
    assert torch.equal(found, expected)


def test_features_are_standardised_at_their_place_wherever_padding_lies():
    norm = FeatureNorm(4, 10)
    norm.mean.copy_(torch.arange(4.0)[:, None].expand(4, 10))
    norm.std.fill_(2)
    own = torch.randn(1, 3, 10)
    left = Features(torch.cat([torch.full((1, 2, 10), 9.0), own], 1), torch.tensor([[False, False, True, True, True]]))
    alone = Features(own, torch.ones(1, 3, dtype=torch.bool))
    expected = (own - torch.arange(3.0)[None, :, None]) / 2
    assert torch.equal(norm(left).tokens[:, 2:], expected) and not norm(left).tokens[:, :2].any()
    assert torch.equal(norm(alone).tokens, expected) and torch.equal(norm(Features(own, None)).tokens, expected)
    summary = FeatureSummary(4, 10, 3, 16)
    torch.testing.assert_close(summary(norm(left)), summary(alone_of := norm(alone)))
    torch.testing.assert_close(summary(alone_of), summary(Features(alone_of.tokens, None)))


def test_the_order_of_features_is_seen():
    """Attention alone does not tell which token came first; places and the summary do."""
    noise, seen = torch.randn(1, *expert_of(ALL).noise_shape(1)[1:]), features(1)
    seen = Features(seen.tokens, torch.ones_like(seen.mask))
    turned = Features(seen.tokens.flip(1), seen.mask)
    for config, told in (
        (SCALED, False),
        (replace(SCALED, feature_places="learned"), True),
        (replace(SCALED, feature_summary=4), True),
    ):
        expert = expert_of(config)
        noise = torch.randn(expert.noise_shape(1))
        same = torch.allclose(expert.rollout(seen, noise), expert.rollout(turned, noise), atol=1e-5)
        assert same != told


def test_the_path_counts_until_a_point_is_lost_and_far_points_count_more():
    expert = expert_of(replace(DATA, grid=2))
    torch.nn.init.zeros_(expert.decoder.cogvideox.proj_out.weight)  # it says that nothing moves
    motion = torch.zeros(1, 4, 8, 3)
    motion[0, 0, :, 0] = 0.05  # one scale a step
    mask = torch.ones(1, 4, 8, dtype=torch.bool)
    mask[0, 0, 4:] = False

    def loss(**weights):
        draws = expert.draw(1, torch.Generator().manual_seed(0))
        return float(whole_loss(expert.loss(features(1), motion, mask, draws, LossWeights(**weights))))

    assert far_points(motion, mask).tolist() == [[True, False, False, False]]
    assert loss() == pytest.approx(4 / (28 * 3))  # four increments of 1, of 28 counted with three components
    assert loss(path=0.1) - loss() == pytest.approx(0.1 * (1 + 4 + 9 + 16) / (28 * 3), rel=1e-4)
    assert loss(moving=3) == pytest.approx(3 * loss())
