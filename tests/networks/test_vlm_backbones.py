"""Any vision-language model of transformers as the backbone, and what all backbones have in common."""

import json

import numpy as np
import pytest
import torch
from fixtures.vlm import FAMILIES, write_model
from PIL import Image

from lamp_model.backbones import qwen3_vl, transformers_vlm
from lamp_model.backbones._frozen import best_attention
from lamp_model.features import Backbone
from lamp_model.networks.lora import add_adapters
from schemas.plugins import MissingDependency

TEXTS = ["pick up the black bowl and place it on the plate", "open the drawer"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request, tmp_path_factory):
    folder = write_model(request.param, tmp_path_factory.mktemp(request.param))
    return transformers_vlm.build(transformers_vlm.Config(weights=str(folder), image_size=40))


def pictures(seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.integers(0, 256, (2, 50, 60, 3), np.uint8)) for _ in range(2)]


def test_it_is_a_backbone_and_its_width_is_known_without_weights(backbone):
    assert isinstance(backbone, Backbone)
    assert backbone.width == transformers_vlm.feature_width(backbone.config) == 32
    assert not any(p.requires_grad for p in backbone.parameters()) and not any(
        m.training for m in backbone.model.modules()
    )


def test_features_are_the_models_own_last_hidden_states(backbone):
    """One sample without padding, through the model's own processor and its whole forward."""
    images = pictures()
    features = backbone.encode([image[:1] for image in images], TEXTS[:1])
    shown = [Image.fromarray(image[0].numpy()).resize((40, 40)) for image in images]
    text = backbone._text(TEXTS[0], 2)
    assert "Your task is pick up the black bowl and place it on the plate. To identify" in text
    inputs = backbone.processor(images=[shown], text=[text], return_tensors="pt")
    with torch.no_grad():
        expected = backbone.model(**inputs, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(features.tokens, expected) and features.mask.all()


def test_padding_stands_on_the_left_and_changes_nothing(backbone):
    images = pictures()
    together = backbone.encode(images, TEXTS)
    alone = backbone.encode([image[1:] for image in images], TEXTS[1:])
    assert not together.mask[1, 0] and together.mask[:, -1].all() and alone.mask.all()
    torch.testing.assert_close(together.tokens[1][together.mask[1]], alone.tokens[0], rtol=1e-4, atol=1e-5)
    assert [backbone.length(text, 2) for text in TEXTS] == together.mask.sum(1).tolist()


def test_both_cameras_and_their_order_matter(backbone):
    first, second = pictures()
    straight, crossed = backbone.encode([first, second], TEXTS), backbone.encode([second, first], TEXTS)
    assert not torch.allclose(straight.tokens, crossed.tokens, atol=1e-2)


def test_saved_it_comes_back_and_adapters_are_not_saved_with_it(tmp_path):
    """Also as an architecture whose weights a checkpoint brings."""
    folder = write_model("llava", tmp_path / "made")
    backbone = transformers_vlm.build(transformers_vlm.Config(weights=str(folder), image_size=40))
    expected = backbone.encode(pictures(), TEXTS).tokens
    add_adapters(backbone.language_model, 4)
    backbone.save(str(tmp_path / "saved"))
    for only in (False, True):
        config = transformers_vlm.Config(weights=str(tmp_path / "saved"), image_size=40, architecture_only=only)
        again = transformers_vlm.build(config)
        if only:
            again.model.load_state_dict(transformers_vlm.build(backbone.config).model.state_dict())
        assert torch.equal(again.encode(pictures(), TEXTS).tokens, expected)


def test_a_model_without_a_pinned_revision_is_refused():
    with pytest.raises(ValueError, match="needs a model: weights=FOLDER"):
        transformers_vlm.Config()
    with pytest.raises(ValueError, match=r"owner/name is no folder here, and a name .* needs revision=COMMIT"):
        transformers_vlm.Config(weights="owner/name")


def test_code_that_comes_with_weights_is_not_run(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "strange", "auto_map": {"AutoConfig": "configuration_strange.Strange"}})
    )
    trap = tmp_path / "ran"
    (tmp_path / "configuration_strange.py").write_text(f"open({str(trap)!r}, 'w')\n")
    with pytest.raises(MissingDependency, match=r"could not be loaded") as refused:
        transformers_vlm.build(transformers_vlm.Config(weights=str(tmp_path)))
    assert not trap.exists() and "\n" not in str(refused.value)


def test_rotary_frequencies_are_never_rounded_and_adapters_stay_exact():
    """A GPU's precision: only the frozen weights become 16 bits."""
    backbone = qwen3_vl.build(qwen3_vl.Config(weights="random:tiny", image_size=64, min_pixels=0))
    add_adapters(backbone.language_model, 4)
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    backbone.to_device(torch.device("cpu"), torch.bfloat16)
    kinds = {("adapter" if ".lora_" in name else "weight", p.dtype) for name, p in backbone.named_parameters()}
    assert kinds == {("adapter", torch.float32), ("weight", torch.bfloat16)}
    after = dict(backbone.named_buffers())
    assert any("inv_freq" in name for name in before)
    assert all(torch.equal(after[name], buffer) for name, buffer in before.items())


def test_attention_is_chosen_for_the_device():
    backbone = qwen3_vl.build(qwen3_vl.Config(weights="random:tiny", image_size=64, min_pixels=0, attention="eager"))
    assert backbone.model.config._attn_implementation == "eager"
    backbone.place(torch.device("cpu"))
    assert backbone.model.config._attn_implementation == "eager", "what was asked for stays"
    automatic = qwen3_vl.build(qwen3_vl.Config(weights="random:tiny", image_size=64, min_pixels=0))
    automatic.place(torch.device("cpu"))
    assert automatic.model.config._attn_implementation == "sdpa" == best_attention(torch.device("cpu"))


def test_flash_attention_is_taken_on_a_gpu_where_it_is_installed(monkeypatch):
    from lamp_model.backbones import _frozen

    for installed, expected in ((True, "flash_attention_2"), (False, "sdpa")):
        monkeypatch.setattr(_frozen, "is_flash_attn_2_available", lambda installed=installed: installed)
        assert best_attention(torch.device("cuda")) == expected
        assert best_attention(torch.device("cpu")) == "sdpa"
