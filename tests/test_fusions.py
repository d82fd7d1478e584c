"""Laws that every fusion keeps, and the gated one's own."""

import dataclasses

import pytest
import torch

from lamp_model.fusions import gated
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


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="divides the feature width 192, found 40"):
        gated.Config(feature_width=192)
