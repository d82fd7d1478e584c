"""Every name and shape of the paper-size policy against the published checkpoints' layout; nothing is allocated."""

import pytest
import torch

from lamp_model.model import PolicyModel
from lamp_model.presets import PRESETS, preset

LAYERS, WIDTH, FEATURES = 12, 1024, 2560


def linear(name, out, inside, bias=True):
    return {f"{name}.weight": (out, inside)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def motion_head():
    shapes = linear("vlm_proj", WIDTH, FEATURES, bias=False)
    shapes["decoder.learnable_padding_tokens"] = (1, 256, WIDTH)
    root = "decoder.cogvideox"
    shapes |= linear(f"{root}.patch_embed.proj", WIDTH, 3 * 2 * 2 * 2)
    shapes |= linear(f"{root}.patch_embed.text_proj", WIDTH, WIDTH)
    shapes |= linear(f"{root}.time_embedding.linear_1", WIDTH, 512)
    shapes |= linear(f"{root}.time_embedding.linear_2", WIDTH, WIDTH)
    for i in range(LAYERS):
        block = f"{root}.transformer_blocks.{i}"
        for part in ("norm1", "norm2"):
            shapes |= linear(f"{block}.{part}.linear", 6 * WIDTH, WIDTH) | norm(f"{block}.{part}.norm", WIDTH)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= linear(f"{block}.attn1.{part}", WIDTH, WIDTH)
        shapes |= norm(f"{block}.attn1.norm_q", 64) | norm(f"{block}.attn1.norm_k", 64)
        shapes |= linear(f"{block}.ff.net.0.proj", 4 * WIDTH, WIDTH) | linear(f"{block}.ff.net.2", WIDTH, 4 * WIDTH)
    shapes |= norm(f"{root}.norm_final", WIDTH)
    shapes |= linear(f"{root}.norm_out.linear", 2 * WIDTH, WIDTH) | norm(f"{root}.norm_out.norm", WIDTH)
    return shapes | linear(f"{root}.proj_out", 24, WIDTH)


def motion_guidance():
    shapes = linear("motion_proj", FEATURES, WIDTH) | norm("norm_vl", FEATURES) | norm("norm_motion", FEATURES)
    shapes |= {"cross_attn.in_proj_weight": (3 * FEATURES, FEATURES), "cross_attn.in_proj_bias": (3 * FEATURES,)}
    return shapes | linear("cross_attn.out_proj", FEATURES, FEATURES) | {"gate": (1,)}


def action_model():
    shapes = {"pos_emb": (1, 512, WIDTH)} | norm("norm", WIDTH)
    shapes |= (
        linear("vlm_proj", WIDTH, FEATURES) | linear("action_encoder", WIDTH, 47) | linear("action_decoder", 7, WIDTH)
    )
    for i in range(24):
        block = f"blocks.{i}"
        shapes |= norm(f"{block}.norm1", WIDTH) | norm(f"{block}.norm2", WIDTH)
        shapes |= linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | linear(f"{block}.attn.proj", WIDTH, WIDTH)
        shapes |= linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
    return shapes


def qwen_vl_interface():
    """Qwen3-VL-4B-Instruct as its published weights name it; the words' embedding is also the last projection."""
    text, vision, words = 2560, 1024, 151_936
    shapes = {"model.lm_head.weight": (words, text)}
    root = "model.model.language_model"
    shapes |= {f"{root}.embed_tokens.weight": (words, text), f"{root}.norm.weight": (text,)}
    for i in range(36):
        layer = f"{root}.layers.{i}"
        heads = {"q_proj": (32 * 128, text), "k_proj": (8 * 128, text), "v_proj": (8 * 128, text)}
        heads |= {"o_proj": (text, 32 * 128), "q_norm": (128,), "k_norm": (128,)}
        wide = {"gate_proj": (9728, text), "up_proj": (9728, text), "down_proj": (text, 9728)}
        shapes |= {f"{layer}.self_attn.{name}.weight": shape for name, shape in heads.items()}
        shapes |= {f"{layer}.mlp.{name}.weight": shape for name, shape in wide.items()}
        shapes |= {f"{layer}.{name}.weight": (text,) for name in ("input_layernorm", "post_attention_layernorm")}
    root = "model.model.visual"
    shapes |= {f"{root}.patch_embed.proj.weight": (vision, 3, 2, 16, 16), f"{root}.patch_embed.proj.bias": (vision,)}
    shapes |= {f"{root}.pos_embed.weight": (48 * 48, vision)}
    for i in range(24):
        block = f"{root}.blocks.{i}"
        shapes |= norm(f"{block}.norm1", vision) | norm(f"{block}.norm2", vision)
        shapes |= linear(f"{block}.attn.qkv", 3 * vision, vision) | linear(f"{block}.attn.proj", vision, vision)
        shapes |= linear(f"{block}.mlp.linear_fc1", 4096, vision) | linear(f"{block}.mlp.linear_fc2", vision, 4096)
    # Four neighbours are merged: the last layer's are normed one by one, those of three layers before it together.
    for merger, width in (("merger", vision), *((f"deepstack_merger_list.{i}", 4 * vision) for i in range(3))):
        shapes |= norm(f"{root}.{merger}.norm", width)
        shapes |= linear(f"{root}.{merger}.linear_fc1", 4 * vision, 4 * vision)
        shapes |= linear(f"{root}.{merger}.linear_fc2", text, 4 * vision)
    return shapes


@pytest.fixture(scope="module")
def policy():
    sizes = preset("paper").model
    weightless = {"weights": "random:4b"}
    with torch.device("meta"):
        return PolicyModel(type(sizes)(backbone_options=weightless))


@pytest.mark.parametrize("part", [qwen_vl_interface, motion_head, motion_guidance, action_model])
def test_names_and_shapes_are_the_published_ones(policy, part):
    found = {name: tuple(t.shape) for name, t in policy.get_submodule(part.__name__).state_dict().items()}
    assert found == part()


def test_every_name_belongs_to_one_of_the_four_parts(policy):
    parts = [qwen_vl_interface, motion_head, motion_guidance, action_model]
    expected = {f"{part.__name__}.{name}" for part in parts for name in part()}
    assert set(policy.state_dict()) == expected
    assert policy.qwen_vl_interface.width == FEATURES
    assert sum(p.numel() for p in policy.qwen_vl_interface.parameters()) == 4_437_815_808
    tied = policy.qwen_vl_interface.model
    assert tied.lm_head.weight is tied.get_input_embeddings().weight


def test_the_paper_preset_has_the_published_numbers():
    paper = preset("paper")
    assert paper.model.motion.tokens == 1600 and paper.model.motion.width == 1024
    assert (paper.stage1.batch_size, paper.stage1.betas) == (512, (0.9, 0.95))
    assert (paper.stage2.steps, paper.stage2.learning_rate, paper.stage2.weight_decay) == (15_000, 1e-4, 0.0)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_both_stages(name):
    assert preset(name).training(1).stage == 1 and preset(name).training(2).stage == 2


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="paper, small, tiny"):
        preset("huge")
