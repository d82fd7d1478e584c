"""The model's numbers against ``plain_reference``: float32 here, float64 there, random weights, dropout off."""

import fixtures.plain_reference as plain
import numpy as np
import pytest
import torch
from PIL import Image

from lamp_model.data.normalisation import PublishedAction, PublishedState, Range
from lamp_model.features import Features
from lamp_model.fusions import gated
from lamp_model.model_config import ActionConfig, MotionConfig
from lamp_model.networks import motion_layout
from lamp_model.networks.action_transformer import ActionExpert
from lamp_model.networks.flow_matching import integrate_action
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.observation import resized_by_pil

MOTION = MotionConfig(
    layers=3, heads=2, head_dim=16, time_channels=32, patch_size=2, grid=4, horizon=8, conditioning_tokens=12
)
SIZES = {"layers": 3, "heads": 2, "time_channels": 32, "patch": 2, "words": 12}
ACTION = ActionConfig(layers=3, width=32, heads=2, positions=40)
FEATURES = 24


def filled(module):
    """Random weights everywhere, also where training begins at zero; scaled so that no layer is idle."""
    torch.set_num_threads(1)
    chance = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        wide = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
        offset = 1.0 if "norm" in name and name.endswith("weight") and parameter.ndim == 1 else 0.0
        parameter.data = offset + wide * torch.randn(parameter.shape, generator=chance)
    return module.eval().requires_grad_(False)


def weights_of(module):
    return {name: tensor.double() for name, tensor in module.state_dict().items()}


def random(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def agree(found, expected):
    """To 1e-5 of the result's size."""
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert float((found.double() - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert float(expected.std()) > 1e-2  # nothing was compared with nothing


@pytest.fixture(scope="module")
def expert():
    return filled(MotionExpert(MOTION, FEATURES))


@pytest.fixture(scope="module")
def action():
    return filled(ActionExpert(ACTION, FEATURES))


@pytest.mark.parametrize("timestep", [0, 100, 900])
def test_motion_velocity(expert, timestep):
    noise, seen = random(*expert.noise_shape(2)), random(2, 5, FEATURES)
    found = expert.velocity(noise, torch.full((2,), float(timestep)), expert.condition(Features(seen, None)))
    words = plain.conditioning(weights_of(expert), seen.double(), 12)
    agree(found, plain.motion_network(weights_of(expert), noise.double(), timestep, words, SIZES)[0])


def test_one_step_hidden_state(expert):
    noise, seen = random(*expert.noise_shape(2)), random(2, 5, FEATURES)
    found = expert.guidance_state(Features(seen, None), noise)
    agree(found, plain.one_step_hidden(weights_of(expert), seen.double(), noise.double(), SIZES))


def test_full_rollout(expert):
    noise, seen = random(*expert.noise_shape(2)), random(2, 5, FEATURES)
    found = expert.rollout(Features(seen, None), noise)
    agree(found, plain.rollout(weights_of(expert), seen.double(), noise.double(), SIZES))


def test_motion_guidance():
    fusion = filled(gated.build(gated.Config(feature_width=FEATURES, motion_width=32, heads=4)))
    seen, hidden = random(2, 5, FEATURES), random(2, 16, 32, seed=2)
    agree(fusion(seen, hidden), plain.guidance(weights_of(fusion), seen.double(), hidden.double(), 4))


@pytest.mark.parametrize("time", [1.0, 0.3])
def test_action_velocity(action, time):
    guided, noisy, state = random(2, 9, FEATURES), random(2, 10, 7, seed=2), random(2, 8, seed=3)
    found = action.velocity(noisy, torch.full((2,), time), state, action.context(Features(guided, None)))
    # The time is a float32 on both sides, as it is in the published code.
    told = float(torch.tensor(time))
    agree(found, plain.action_velocity(weights_of(action), guided.double(), noisy.double(), state.double(), told, 3, 2))


def test_ten_step_chunk(action):
    guided, noise, state = random(2, 9, FEATURES), random(2, 10, 7, seed=2), random(2, 8, seed=3)
    context = action.context(Features(guided, None))
    found = integrate_action(lambda x, t: action.velocity(x, torch.full((2,), t), state, context), noise, 10)
    agree(found, plain.action_chunk(weights_of(action), guided.double(), noise.double(), state.double(), 3, 2))


def test_the_times_are_the_same_bits(expert):
    """Motion: int(t * 1000) with t = step / 10. Action: 1 + step * (-1 / 10) as float32. (Published code, both
    samplers.)
    """
    told = []
    handle = expert.decoder.cogvideox.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1].tolist()))
    seen, noise = Features(random(1, 5, FEATURES), None), random(*expert.noise_shape(1))
    expert.guidance_state(seen, noise)
    expert.rollout(seen, noise)
    handle.remove()
    assert told == [[0.0], [100.0]] + [[float(int(step / 10 * 1000))] for step in range(10)]
    times = []
    integrate_action(lambda x, t: times.append(torch.tensor(t)) or x, random(1, 2), 10)
    assert torch.equal(torch.stack(times), torch.tensor([1.0 + step * (-1.0 / 10) for step in range(10)]))


def test_packing_is_the_same_bits():
    """Component-major: the published decoder packs its input, unpacks its output and unpacks what it has sampled by
    splitting the channels as [component, step], in all three places."""
    packed = random(2, 4, 6, 4, 4)
    assert torch.equal(motion_layout.unpack(packed), plain.unpacked(packed))
    assert torch.equal(motion_layout.pack(plain.unpacked(packed)), packed)


@pytest.mark.parametrize("length", [1, 5, 7, 12, 15])
def test_padding_is_the_same_bits(expert, length):
    seen = random(2, length, FEATURES)
    found = expert.condition(Features(seen, None))
    own = expert.vlm_proj(seen)
    expected = [own[:, i % length] for i in range(12 // length * length or 12)]
    expected += [expert.decoder.learnable_padding_tokens[:, i].expand(2, -1) for i in range(12 - len(expected))]
    projected = expert.decoder.cogvideox.project(torch.stack(expected, dim=1))
    assert found.mask is None and torch.equal(found.tokens, projected)


@pytest.mark.parametrize("mask_z", [False, True])
def test_statistics_are_the_same_bits(mask_z):
    rng = np.random.default_rng(0)
    low = rng.normal(size=8).astype(np.float32)
    high = low + rng.random(8).astype(np.float32)
    high[4] = low[4]
    bounds = Range(tuple(map(float, low)), tuple(map(float, high)))
    values = (2 * rng.normal(size=(50, 8))).astype(np.float32)
    values[0, -1], values[1, -1] = 0.5, np.nextafter(np.float32(0.5), np.float32(1))
    state = PublishedState(bounds, mask_z=mask_z).normalise(torch.from_numpy(values)).numpy()
    assert np.array_equal(state, plain.published_state(values, low, high, mask_z))
    action = PublishedAction(bounds).denormalise(torch.from_numpy(values)).numpy()
    assert np.array_equal(action, plain.published_action(values, low, high))


def test_images_are_resized_by_pil():
    image = np.random.default_rng(0).integers(0, 256, (48, 60, 3), np.uint8)
    assert np.array_equal(resized_by_pil(image, 32), np.asarray(Image.fromarray(image).resize((32, 32))))
    assert np.array_equal(resized_by_pil(image, None), image)
