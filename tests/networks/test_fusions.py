"""Laws that every fusion keeps, and the gated one's own."""

import dataclasses
import math

import pytest
import torch

from lamp_model.fusions import gated, gated_tokens
from schemas.plugins import load_plugin, plugin_names

FOLDER = "lamp_model.fusions"


@pytest.mark.parametrize("name", plugin_names(FOLDER))
def test_guided_features_keep_their_shape_and_feel_the_motion(name):
    torch.manual_seed(0)
    module = load_plugin(FOLDER, name)
    sizes = {"feature_width": 12, "motion_width": 8}
    if "heads" in {f.name for f in dataclasses.fields(module.Config)}:
        sizes["heads"] = 3
    fusion = module.build(module.Config(**sizes)).eval()
    features, hidden = torch.randn(2, 5, 12), torch.randn(2, 7, 8)
    guided = fusion(features, hidden)
    assert guided.shape == features.shape
    assert not torch.allclose(fusion(features, hidden + torch.randn(2, 7, 8)), guided)
    # A token's guidance does not depend on the other tokens, so padding cannot leak through it.
    changed = features.clone()
    changed[:, 0] = 9
    torch.testing.assert_close(fusion(changed, hidden)[:, 1:], guided[:, 1:])


def test_the_gate_opens_from_nothing_to_everything():
    torch.manual_seed(0)
    fusion = gated.build(gated.Config(feature_width=12, motion_width=8, heads=3)).eval()
    features, hidden = torch.randn(2, 5, 12), torch.randn(2, 7, 8)
    half = fusion(features, hidden) - features
    with torch.no_grad():
        fusion.gate.fill_(-50.0)
    torch.testing.assert_close(fusion(features, hidden), features)
    with torch.no_grad():
        fusion.gate.fill_(50.0)
    torch.testing.assert_close(fusion(features, hidden) - features, 2 * half)


def test_a_token_s_gate_is_the_sigmoid_of_a_linear_of_the_token():
    torch.manual_seed(0)
    fusion = gated_tokens.build(gated_tokens.Config(feature_width=12, motion_width=8, heads=3, gate=0.5)).eval()
    features, hidden = torch.randn(1, 5, 12) * 3 + 1, torch.randn(1, 7, 8)
    layer = fusion.layers[0]
    with torch.no_grad():
        open_half = (fusion(features, hidden) - features) / torch.sigmoid(torch.tensor(0.5))
        layer.gate.weight.copy_(torch.randn(1, 12))
        gates = [1 / (1 + math.exp(-(float(layer.gate.weight[0] @ token) + 0.5))) for token in features[0]]
        expected = features + torch.tensor(gates)[None, :, None] * open_half
        torch.testing.assert_close(fusion(features, hidden), expected)


def test_heads_that_do_not_divide_the_width_are_refused_with_some_that_do():
    with pytest.raises(ValueError, match="divides the feature width 192, found 40: give --fusion with heads=32, as in"):
        gated.Config(feature_width=192)


@pytest.mark.parametrize("fusion", [gated, gated_tokens])
@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"heads": 0}, "heads must lie between 1 and 65536, found 0"),
        ({"heads": -3}, "heads must lie between 1 and 65536, found -3"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, found 1.0"),
        ({"dropout": math.nan}, "dropout must .* found nan"),
        ({"gate": math.inf}, "gate must be a finite number, found inf"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(fusion, option, says):
    with pytest.raises(ValueError, match=says):
        fusion.Config(**option)
