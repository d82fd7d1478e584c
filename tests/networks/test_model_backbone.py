"""Qwen3-VL: preprocessing on the device against the library's own, padding, and what features are."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lamp_model.backbones import qwen3_vl
from lamp_model.features import prompt
from schemas.plugins import MissingDependency

TEXTS = ["pick up the black bowl and place it on the plate", "open the drawer"]


@pytest.fixture(scope="module")
def backbone():
    torch.set_num_threads(1)
    return qwen3_vl.build(qwen3_vl.Config(weights="random:tiny", image_size=64, min_pixels=0))


def pictures(count, size=64, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 9, 9, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(s).resize((size, size))) for s in small])


@pytest.mark.parametrize("min_pixels", [0, 65_536])
def test_patches_equal_the_librarys_processor(min_pixels):
    """At 224 x 224, both as it is and enlarged to 256 x 256, which is what Qwen3-VL's own settings do."""
    config = qwen3_vl.Config(weights="random:tiny", image_size=224, min_pixels=min_pixels)
    backbone = qwen3_vl.build(config)
    images = pictures(2, 224)
    processor = Qwen2VLImageProcessorPil(
        patch_size=16,
        merge_size=2,
        temporal_patch_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": min_pixels or 1, "longest_edge": config.max_pixels},
    )
    expected = processor([Image.fromarray(i) for i in images], return_tensors="pt")
    found = backbone.patches(backbone._resized(torch.from_numpy(images)))
    rows, columns = expected["image_grid_thw"][0, 1:].tolist()
    assert (rows, columns) == backbone._grid() == ((16, 16) if min_pixels else (14, 14))
    # Where it is resized, PIL's fixed-point bicubic rounds a rare tie the other way: one level of 255.
    difference = (found - expected["pixel_values"]).abs()
    assert difference.max() <= (2.01 / 255 if min_pixels else 1e-6)
    assert (difference > 1e-6).float().mean() < 1e-3


@pytest.mark.parametrize("size", [128, 256, 480])
def test_resizing_is_pils(size):
    image = pictures(1, size)[0]
    expected = np.asarray(Image.fromarray(image).resize((224, 224)), np.float32)
    found = qwen3_vl.resize(torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None], (224, 224))
    difference = np.abs(found[0].permute(1, 2, 0).numpy() - expected)
    assert difference.max() <= 2 and difference.mean() < 0.03


def test_features_are_the_last_hidden_states_of_the_language_model(backbone):
    images = [torch.from_numpy(pictures(2, seed=s)) for s in (0, 1)]
    features = backbone.encode(images, TEXTS)
    tokens = backbone._tokens(TEXTS, 2)
    pixels = torch.stack([backbone._resized(i) for i in images], 1).flatten(0, 1)
    with torch.no_grad():
        states = backbone.model(
            **tokens,
            mm_token_type_ids=(tokens["input_ids"] == backbone.model.config.image_token_id).int(),
            pixel_values=backbone.patches(pixels),
            image_grid_thw=torch.tensor([[1, 4, 4]] * 4),
            output_hidden_states=True,
        ).hidden_states[-1]
    torch.testing.assert_close(features.tokens[features.mask], states[features.mask])
    assert not features.mask.all()
    assert [backbone.length(text, 2) for text in TEXTS] == features.mask.sum(1).tolist()


def test_the_other_samples_of_a_batch_change_nothing(backbone):
    images = [torch.from_numpy(pictures(2, seed=s)) for s in (0, 1)]
    together = backbone.encode(images, TEXTS)
    alone = backbone.encode([i[1:] for i in images], TEXTS[1:])
    assert not together.mask.all() and alone.mask.all()
    torch.testing.assert_close(together.tokens[1][together.mask[1]], alone.tokens[0], rtol=1e-4, atol=1e-5)


def test_both_cameras_and_their_order_matter(backbone):
    first, second = (torch.from_numpy(pictures(1, seed=s)) for s in (0, 1))
    straight = backbone.encode([first, second], TEXTS[:1]).tokens
    crossed = backbone.encode([second, first], TEXTS[:1]).tokens
    assert not torch.allclose(straight, crossed, atol=1e-2)


def test_the_text_is_the_published_prompt_after_both_images(backbone):
    ids = backbone._tokens(["open the drawer."], 2)["input_ids"][0]
    text = backbone.tokenizer.decode(ids)
    image = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>"
    assert text == (
        f"<|im_start|>user\n{image}{image}Your task is open the drawer. To identify the key objects for your task. "
        "Locate their bounding boxes in [x1,y1,x2,y2] format.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt(" open the drawer. ") == prompt("open the drawer")
    assert prompt(" open. ", "Do {instruction}!", tidy=False) == "Do  open. !"


def test_any_text_has_tokens(backbone):
    text = "schließe die Schublade 🤖"
    assert backbone.tokenizer.decode(backbone.tokenizer(text)["input_ids"]) == text


def test_saved_weights_and_tokenizer_come_back(backbone, tmp_path):
    backbone.save(str(tmp_path / "backbone"))
    again = qwen3_vl.build(qwen3_vl.Config(weights=str(tmp_path / "backbone"), image_size=64, min_pixels=0))
    images = [torch.from_numpy(pictures(2))]
    assert torch.equal(again.encode(images, TEXTS).tokens, backbone.encode(images, TEXTS).tokens)


def test_missing_weights_are_named_in_a_sentence(tmp_path):
    with pytest.raises(MissingDependency, match=r"nowhere could not be loaded"):
        qwen3_vl.build(qwen3_vl.Config(weights=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="tiny, 2b, 4b"):
        qwen3_vl.build(qwen3_vl.Config(weights="random:huge"))
