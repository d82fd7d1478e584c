"""Our forward pass of Qwen3-VL: transformers' numbers and gradients from transformers' modules, and no question to the
device.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lamp_model.backbones import qwen3_vl
from lamp_model.backbones._qwen3_vl_forward import last_hidden_states, unattended_state
from lamp_model.backbones._qwen3_vl_layout import Grid, lay_out
from lamp_model.model import PolicyModel
from lamp_model.model_config import ActionConfig, ModelConfig, MotionConfig
from lamp_model.networks.lora import add_adapters
from schemas.plugins import configure

TEXTS = ["pick up the black bowl and place it on the plate", "open the drawer", "stack the spoon on the red cup"]
SQUARE, WIDE, HIGH = (4, 4), (4, 10), (8, 6)
"""Rows and columns of patches; four of them make a token."""


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def built(attention="auto"):
    config = qwen3_vl.Config(weights="random:tiny", image_size=64, min_pixels=0, attention=attention)
    backbone = qwen3_vl.build(config)
    generator = torch.Generator().manual_seed(0)
    for (
        name,
        parameter,
    ) in backbone.named_parameters():  # as the library makes them, norms and biases would hide mistakes
        if parameter.ndim == 1:
            parameter.data = parameter + 0.1 * torch.randn(parameter.shape, generator=generator)
        elif "pos_embed" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return backbone


@pytest.fixture(scope="module")
def backbone():
    return built()


def told(backbone, texts, cameras, grid):
    """Tokens of texts after images of a grid, padded on the left."""
    tokens = backbone.tokenizer
    image = "<|vision_start|>" + "<|image_pad|>" * (grid[0] * grid[1] // 4) + "<|vision_end|>"
    return tokens([image * cameras + text for text in texts], padding=True, return_tensors="pt")


def patches(count, grid, seed=0):
    return torch.randn(count * grid[0] * grid[1], 3 * 2 * 16 * 16, generator=torch.Generator().manual_seed(seed))


def library(backbone, tokens, pixels, cameras, grid):
    """transformers' own pass."""
    image = (tokens["input_ids"] == backbone.model.config.image_token_id).int()
    grids = torch.tensor([[1, *grid]]).expand(len(image) * cameras, 3)
    return backbone.model.model(
        input_ids=tokens["input_ids"],
        attention_mask=tokens["attention_mask"],
        mm_token_type_ids=image,
        pixel_values=pixels,
        image_grid_thw=grids,
        use_cache=False,
    ).last_hidden_state


def layout_of(backbone, tokens, grid, pack=False):
    merged = grid[0] // 2, grid[1] // 2
    own = tokens["attention_mask"].bool()
    return lay_out(tokens["input_ids"], own, backbone.model.config.image_token_id, merged, pack)


def ours(backbone, tokens, pixels, grid, pack=False):
    tables = Grid(*grid, backbone.model.model.visual).tables()
    return last_hidden_states(backbone.model.model, pixels, tables, layout_of(backbone, tokens, grid, pack))


@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[:2], TEXTS])
@pytest.mark.parametrize("grid", [SQUARE, WIDE, HIGH])
@pytest.mark.parametrize("cameras", [1, 2])
def test_it_gives_the_librarys_numbers(backbone, texts, cameras, grid):
    tokens, pixels = told(backbone, texts, cameras, grid), patches(len(texts) * cameras, grid)
    own = tokens["attention_mask"].bool()
    assert own.all() == (len(texts) == 1)
    with torch.no_grad():
        expected, found = library(backbone, tokens, pixels, cameras, grid), ours(backbone, tokens, pixels, grid)
    torch.testing.assert_close(found[own], expected[own], rtol=1e-4, atol=2e-5)
    assert found.isfinite().all(), "padding too: what is not a number would pass through a mask"
    image = (tokens["input_ids"] == backbone.model.config.image_token_id).int()
    grids = torch.tensor([[1, *grid]]).expand(len(texts) * cameras, 3)
    positions, _ = backbone.model.model.get_rope_index(tokens["input_ids"], image, grids, None, own)
    assert torch.equal(layout_of(backbone, tokens, grid).positions, positions)


def test_it_gives_the_librarys_numbers_with_any_attention_that_takes_a_mask_and_in_16_bits():
    for attention, precision, tolerance in (("eager", torch.float32, 2e-5), ("sdpa", torch.bfloat16, 0.1)):
        backbone = built(attention)
        backbone.to_device(torch.device("cpu"), precision)
        tokens, pixels = told(backbone, TEXTS, 2, SQUARE), patches(6, SQUARE)
        own = tokens["attention_mask"].bool()
        with torch.no_grad():
            expected, found = library(backbone, tokens, pixels, 2, SQUARE), ours(backbone, tokens, pixels, SQUARE)
        assert found.dtype == expected.dtype == precision
        torch.testing.assert_close(found[own], expected[own], rtol=tolerance, atol=tolerance)


def test_adapters_get_the_librarys_gradients(backbone):
    backbone = built()
    add_adapters(backbone.language_model, 4)
    adapters = {n: p for n, p in backbone.named_parameters() if ".lora_" in n}
    for parameter in adapters.values():
        torch.nn.init.normal_(parameter, std=0.1)
    tokens, pixels = told(backbone, TEXTS, 2, WIDE), patches(6, WIDE)
    own = tokens["attention_mask"].bool()
    aim = torch.randn(int(own.sum()), backbone.width, generator=torch.Generator().manual_seed(1))
    gradients = []
    for states in (library(backbone, tokens, pixels, 2, WIDE), ours(backbone, tokens, pixels, WIDE)):
        (states[own] * aim).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in adapters.items()})
        backbone.zero_grad()
    expected, found = gradients
    assert all(gradient.abs().max() > 0.1 for gradient in expected.values())
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_that_attends_to_nothing_is_what_the_librarys_masks_make_of_it(attention):
    """The library empties those rows of sdpa's mask; which attention we use does not matter."""
    backbone, reference = built(attention), built("sdpa")
    tokens, pixels = told(backbone, TEXTS, 2, SQUARE), patches(6, SQUARE)
    own = tokens["attention_mask"].bool()
    with torch.no_grad():
        expected = library(reference, tokens, pixels, 2, SQUARE)
        itself = ours(backbone, tokens, pixels, SQUARE)
        unattended = unattended_state(backbone.model.model, backbone.tokenizer.pad_token_id)
    assert not own.all() and (itself - expected)[~own].abs().max() > 1e-2
    torch.testing.assert_close(unattended.expand_as(expected[~own]), expected[~own], rtol=1e-4, atol=2e-5)


def test_features_are_taken_before_the_final_norm_where_that_is_asked_for():
    texts, image = ["open the drawer", TEXTS[0]], torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    options = {"weights": "random:tiny", "image_size": 64, "min_pixels": 0, "padding": "unattended"}
    after, before = (qwen3_vl.build(qwen3_vl.Config(features=f, **options)) for f in ("after-norm", "before-norm"))
    with torch.no_grad():
        normed, raw = (model.encode([image], texts).tokens for model in (after, before))
        again = after.model.model.language_model.norm(raw)
    torch.testing.assert_close(again, normed)
    assert (raw - normed).abs().max() > 0.1
    with pytest.raises(ValueError, match="features must be one of after-norm, before-norm, found 'norm'"):
        configure("lamp_model.backbones", "qwen3-vl", {"features": "norm"})


def packed_attention(module, query, key, value, attention_mask, scaling, cu_seq_lens_q=None, is_causal=None, **options):
    """What flash attention promises, in the plainest way: samples packed in one row when their lengths are given, no
    mask ever.
    """
    assert attention_mask is None
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    causal = module.is_causal if is_causal is None else is_causal
    ends = [0, query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.tolist()
    parts = []
    for start, end in itertools.pairwise(ends):
        assert cu_seq_lens_q is None or (query.shape[0] == 1 and end - start <= options["max_length_q"])
        q, k, v = (x[:, :, start:end] for x in (query, key, value))
        scores = q @ k.transpose(2, 3) * scaling
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        parts.append(scores.softmax(-1) @ v)
    return torch.cat(parts, 2).transpose(1, 2), None


@pytest.mark.parametrize("texts", [TEXTS[:1], [TEXTS[0]] * 2, TEXTS])
def test_flash_attention_gets_samples_packed_in_place_of_a_mask(backbone, texts, monkeypatch):
    """There is none on a CPU: a plain attention with the same interface stands for it."""
    tokens, pixels = told(backbone, texts, 2, SQUARE), patches(2 * len(texts), SQUARE)
    own = tokens["attention_mask"].bool()
    with torch.no_grad():
        expected = library(backbone, tokens, pixels, 2, SQUARE)
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_plain", packed_attention)
        for config in (backbone.model.config.text_config, backbone.model.config.vision_config):
            monkeypatch.setattr(config, "_attn_implementation_internal", "flash_attention_plain")
        found = ours(backbone, tokens, pixels, SQUARE, pack=True)
    torch.testing.assert_close(found[own], expected[own], rtol=1e-4, atol=2e-5)
    assert found.shape == expected.shape and not found[~own].any()


def test_an_attention_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"must be auto, sdpa, eager or flash_attention_2, found 'flex_attention'"):
        qwen3_vl.Config(attention="flex_attention")


def test_compiled_it_attends_with_torchs_own_attention_unless_another_was_asked_for():
    for asked, expected in (("auto", "sdpa"), ("eager", "eager")):
        backbone = built(asked)
        backbone.model.set_attn_implementation("eager")
        backbone.compile_forward("default")
        assert backbone.language_model.config._attn_implementation == expected
        assert backbone.model.model.visual.config._attn_implementation == expected


class NoWaiting(TorchDispatchMode):
    """Refuses copies between host and device for which the host waits."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        before = {a.device for a in arguments if isinstance(a, torch.Tensor)}
        made = function(*arguments, **options)
        crossed = isinstance(made, torch.Tensor) and before and made.device not in before
        if (crossed or len(before) > 1) and "copy" in str(function) and not options.get("non_blocking"):
            raise RuntimeError(f"the host waits in {function}")
        return made


def test_a_prediction_asks_the_device_nothing_and_the_librarys_pass_does():
    """On the meta device, whose tensors have no values: whatever reads one, counts true ones or waits for a copy fails
    there.
    """
    torch.manual_seed(0)
    options = {"weights": "random:tiny", "image_size": 64, "min_pixels": 0}
    motion = MotionConfig(layers=1, heads=2, head_dim=16, time_channels=32, patch_size=10)
    action = ActionConfig(layers=1, width=32, heads=2, positions=128)
    for changed in ({}, {"lora_rank": 4, "fusion": "gated-tokens"}, {"padding": "repeat", "action_head": "binned"}):
        config = ModelConfig(
            backbone_options=options, motion=motion, action=action, fusion_options={"heads": 6}, **changed
        )
        policy, device = PolicyModel(config).eval().to("meta"), torch.device("meta")
        backbone, images = policy.qwen_vl_interface, [torch.zeros(2, 80, 90, 3, dtype=torch.uint8, device=device)] * 2
        noise = torch.zeros(policy.motion_noise(2, torch.Generator()).shape, device=device)
        state, start = torch.zeros(2, 8, device=device), torch.zeros(2, 10, 7, device=device)
        with torch.inference_mode(), NoWaiting():
            features = policy.encode(images, TEXTS[:2])
            chunk = policy.act(policy.guided_features(features, noise), state, start)
        assert chunk.device == device and chunk.shape == (2, 10, 7)
        with torch.inference_mode():
            inputs = backbone._inputs(images, backbone._tokens(TEXTS[:2], 2))
            with pytest.raises(RuntimeError, match="meta"):
                backbone.model.model(**inputs, use_cache=False)


def test_what_refuses_questions_refuses_each_of_them():
    there = torch.ones(3, device="meta")
    for ask in (
        lambda: there.tolist(),
        lambda: there[0].item(),
        lambda: bool(there.all()),
        lambda: there[there > 0],
        lambda: there.nonzero(),
        lambda: there.cpu(),
        lambda: torch.tensor([1.0]).to("meta"),
        lambda: there.copy_(torch.zeros(3)),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)), NoWaiting():
            ask()
    with NoWaiting():
        torch.tensor([1.0]).to("meta", non_blocking=True)


def test_images_of_one_size_are_patched_alike_in_both_passes(backbone):
    """``encode`` as a whole against the library's pass on the same images."""
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.integers(0, 256, (2, 50, 70, 3), np.uint8)) for _ in range(2)]
    with torch.no_grad():
        features = backbone.encode(images, TEXTS[:2])
        inputs = backbone._inputs(images, backbone._tokens(TEXTS[:2], 2))
        expected = backbone.model.model(**inputs, use_cache=False).last_hidden_state
    assert torch.equal(features.mask, inputs["attention_mask"].bool())
    distance = functional.mse_loss(features.tokens[features.mask], expected[features.mask])
    assert distance < 1e-10


def test_a_blind_backbone_sees_black_whatever_it_is_shown():
    config = qwen3_vl.Config(weights="random:tiny", image_size=64, min_pixels=0)
    blind = qwen3_vl.build(replace(config, blind=True))
    black, other = torch.zeros(1, 64, 64, 3, dtype=torch.uint8), torch.full((1, 64, 64, 3), 200, dtype=torch.uint8)
    with torch.no_grad():
        seen = [blind.encode([image], TEXTS[:1]).tokens for image in (black, other)]
        assert torch.equal(*seen)
        assert torch.equal(seen[0], qwen3_vl.build(config).encode([black], TEXTS[:1]).tokens)
        assert not torch.equal(blind.encode([other], TEXTS[1:2]).tokens[:, -1], seen[0][:, -1])  # it still reads
