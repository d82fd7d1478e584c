"""Action heads: bins and their centres as laws, and that each head learns what it is shown."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lamp_model.action_heads import ActionHead
from lamp_model.action_heads.binned import bin_of, centre_of
from lamp_model.features import Features
from lamp_model.model_config import ACTION_HEADS, ActionConfig
from schemas.plugins import configure, load_plugin, plugin_names

SIZES = ActionConfig(action_size=3, state_size=2, chunk=4, layers=2, width=16, heads=2, positions=20, dropout=0.0)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def head(name, **options):
    torch.manual_seed(0)
    config = configure(ACTION_HEADS, name, {"sizes": SIZES, "feature_width": 6, **options})
    return load_plugin(ACTION_HEADS, name).build(config)


def batch(size=2, seed=0):
    chance = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[False, True, True, True, True], [True] * 5])[:size]
    features = Features(torch.randn(size, 5, 6, generator=chance), mask)
    state = torch.randn(size, 2, generator=chance)
    return features, state, torch.rand(size, 4, 3, generator=chance) * 2 - 1


@given(st.integers(2, 512), st.data())
def test_the_centre_of_a_bin_lies_in_it(bins, data):
    index = torch.tensor(data.draw(st.integers(0, bins - 1)))
    assert bin_of(centre_of(index, bins), bins) == index


@given(st.floats(-1, 1, width=32), st.integers(2, 512))
def test_an_action_is_off_by_at_most_half_a_bin(action, bins):
    value = torch.tensor(action)
    assert abs(centre_of(bin_of(value, bins), bins) - value) <= 1 / bins + 1e-6


def test_bins_are_equally_wide_in_order_and_take_what_lies_beyond():
    values = torch.linspace(-1, 1, 256 * 10 + 1)[:-1] + 1e-4  # the edges themselves are a matter of rounding
    assert torch.bincount(bin_of(values, 256)).tolist() == [10] * 256
    assert (bin_of(values, 256).diff() >= 0).all()
    assert bin_of(torch.tensor([-7.0, -1.0, 1.0, 7.0]), 256).tolist() == [0, 0, 255, 255]
    assert centre_of(torch.tensor([0, 255]), 256).tolist() == [-255 / 256, 255 / 256]


@pytest.mark.parametrize("name", plugin_names(ACTION_HEADS))
def test_a_head_learns_one_batch_by_heart_and_says_it(name):
    features, state, actions = batch()
    model, mask = head(name), torch.ones(32, 4, 3, dtype=torch.bool)
    shown = Features(features.tokens.repeat(16, 1, 1), features.mask.repeat(16, 1))
    states, chunks = state.repeat(16, 1), actions.repeat(16, 1, 1)
    assert isinstance(model, ActionHead)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(100):
        loss = model.loss(shown, states, chunks, mask, model.draw(32, torch.Generator().manual_seed(step))).mean
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        said = model.act(features, state, model.noise(2, torch.Generator().manual_seed(0)))
    assert said.shape == actions.shape
    assert (said - actions).abs().mean() < actions.abs().mean() / 2, "not much better than never to act"


@pytest.mark.parametrize("name", plugin_names(ACTION_HEADS))
def test_where_nothing_is_known_nothing_is_learnt(name):
    features, state, actions = batch()
    model = head(name)
    draws = model.draw(2, torch.Generator().manual_seed(0))
    nothing = model.loss(features, state, actions, torch.zeros(2, 4, 3, dtype=torch.bool), draws).mean
    nothing.backward()
    assert nothing == 0 and not any(p.grad.any() for p in model.parameters() if p.grad is not None)


def test_a_fresh_binned_head_holds_all_bins_equally_likely():
    features, state, actions = batch()
    loss = head("binned", bins=16).loss(features, state, actions, torch.ones(2, 4, 3).bool(), {}).mean
    assert loss.item() == pytest.approx(math.log(16), rel=1e-5)


def test_cross_entropy_is_that_of_the_true_bins_in_plain_sums():
    features, state, actions = batch()
    model, mask = head("binned", bins=8), torch.rand(2, 4, 3) < 0.4
    torch.nn.init.normal_(model.action_decoder.weight)
    scores = model.scores(features, state)
    losses = []
    for b, h, a in mask.nonzero().tolist():
        true = min(int((float(actions[b, h, a]) + 1) * 4), 7)
        row = scores[b, h, a].tolist()
        losses.append(math.log(sum(map(math.exp, row))) - row[true])
    found = model.loss(features, state, actions, mask, {}).mean
    assert found.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_binned_actions_leave_nothing_to_chance_and_do_not_see_padding():
    features, state, _ = batch()
    model = head("binned").eval()
    torch.nn.init.normal_(model.action_decoder.weight)
    chance = torch.Generator().manual_seed(0)
    assert model.noise(2, chance) is None and torch.equal(
        chance.get_state(), torch.Generator().manual_seed(0).get_state()
    )
    tokens = features.tokens.clone()
    tokens[0, 0] += 9
    with torch.no_grad():
        same = model.scores(Features(tokens, features.mask), state)
        torch.testing.assert_close(same, model.scores(features, state))
        assert not torch.allclose(same, model.scores(features, state + 1))


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="at least 2 bins, found 1"):
        head("binned", bins=1)


@pytest.mark.parametrize("name", plugin_names(ACTION_HEADS))
def test_padded_actions_cannot_influence_the_others(name):
    """As tokens they are told noise or their padding: whatever it is, nobody attends to them."""
    model = head(name).eval()
    torch.nn.init.normal_(model.action_decoder.weight, std=0.2)
    features, *_ = batch()
    present = torch.tensor([[True, True, False, False], [True] * 4])
    told = torch.randn(2, 4, model.action_encoder.in_features)
    other = told.clone()
    other[~present] += 3.0
    context = model.context(features)
    one, two = model(told, context, present), model(other, context, present)
    torch.testing.assert_close(one[present], two[present])
    assert not torch.allclose(model(told, context)[present], model(other, context)[present])
    seen = model(told, context, torch.ones_like(present))
    torch.testing.assert_close(seen, model(told, context))
