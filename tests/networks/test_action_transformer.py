"""The Action Expert: what it may and may not depend on."""

import math

import pytest
import torch

from lamp_model.features import Features
from lamp_model.model_config import ActionConfig
from lamp_model.networks.action_transformer import ActionExpert, time_sinusoid

SMALL = ActionConfig(action_size=3, state_size=2, chunk=4, layers=2, width=16, heads=2, positions=20)


@pytest.fixture(scope="module")
def expert():
    torch.manual_seed(0)
    module = ActionExpert(SMALL, feature_width=6).eval()
    torch.nn.init.normal_(module.action_decoder.weight)
    return module.requires_grad_(False)


def velocity(expert, features, t=0.5):
    noisy = torch.randn(len(features.tokens), 4, 3, generator=torch.Generator().manual_seed(2))
    state = torch.full((len(noisy), 2), 0.3)
    return expert.velocity(noisy, torch.full((len(noisy),), t), state, expert.context(features))


def test_left_padding_changes_nothing(expert):
    own = torch.randn(1, 5, 6)
    alone = Features(own, torch.ones(1, 5, dtype=torch.bool))
    padded = Features(torch.cat([torch.randn(1, 3, 6), own], 1), torch.tensor([[False] * 3 + [True] * 5]))
    torch.testing.assert_close(velocity(expert, padded), velocity(expert, alone), rtol=1e-5, atol=1e-6)
    released = Features(own, None)
    torch.testing.assert_close(velocity(expert, released), velocity(expert, alone), rtol=1e-5, atol=1e-6)
    unmasked = Features(padded.tokens, None)
    assert not torch.allclose(velocity(expert, unmasked), velocity(expert, alone), atol=1e-3)


def test_the_order_of_tokens_and_the_time_matter(expert):
    features = Features(torch.randn(1, 5, 6), None)
    turned = Features(features.tokens.flip(1), None)
    assert not torch.allclose(velocity(expert, turned), velocity(expert, features), atol=1e-4)
    assert not torch.allclose(velocity(expert, features, 0.1), velocity(expert, features, 0.9), atol=1e-4)


def test_time_is_cosines_then_sines_with_periods_up_to_a_hundred():
    found = time_sinusoid(torch.tensor([0.7]))[0]
    angles = [0.7 * 100 ** (-i / 16) for i in range(16)]
    torch.testing.assert_close(found, torch.tensor([*map(math.cos, angles), *map(math.sin, angles)]))


def test_what_stays_the_same_over_the_steps_is_computed_once(expert):
    """The features' projection, and their queries, keys and values in the first block; nobody asks for them after the
    last.
    """
    seen = []
    first, last = expert.blocks[0].attn.qkv, expert.blocks[-1].mlp
    handles = [
        module.register_forward_hook(lambda module, inputs, _: seen.append((module, inputs[0].shape[1])))
        for module in (expert.vlm_proj, first, last)
    ]
    context = expert.context(Features(torch.randn(1, 5, 6), None))
    for _ in range(3):
        expert.velocity(torch.randn(1, 4, 3), torch.full((1,), 0.5), torch.zeros(1, 2), context)
    for handle in handles:
        handle.remove()
    assert seen == [(expert.vlm_proj, 5), (first, 5), *[(first, 4), (last, 4)] * 3]


def test_a_sequence_longer_than_the_positions_is_refused(expert):
    with pytest.raises(ValueError, match="17 feature tokens and 4 actions exceed the Action Expert's 20 positions"):
        expert.context(Features(torch.zeros(1, 17, 6), None))


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="heads must divide"):
        ActionConfig(heads=7)
    with pytest.raises(ValueError, match="positions must be more than the 512 actions"):
        ActionConfig(chunk=512)
