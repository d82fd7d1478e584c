"""OpenVLA: its vision transformers against transformers' own, the whole against a plain assembly, its names against the
published ones.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    LlamaConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from lamp_model.backbones import openvla_7b
from lamp_model.backbones._prismatic import DINO, SIGLIP, Prismatic
from lamp_model.errors import BadCheckpoint
from lamp_model.features import Backbone
from lamp_model.networks.lora import add_adapters
from schemas.plugins import MissingDependency

TEXTS = ["Pick up the black bowl and place it on the plate.", "open the drawer"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def backbone():
    torch.set_num_threads(1)
    made = openvla_7b.build(openvla_7b.Config(weights="random:tiny"))
    torch.manual_seed(0)
    for parameter in made.model.vision_backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # fresh scales are ones and fresh tokens zeros, which hides mistakes
    return made


def pictures(seed=0, size=28):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.integers(0, 256, (2, size, size, 3), np.uint8)) for _ in range(2)]


def block(ours, target, scaled):
    """Names that timm and transformers have for the parts of a block."""
    q, k, v = ours.attn.qkv.weight.chunk(3)
    qb, kb, vb = ours.attn.qkv.bias.chunk(3)
    attention = target.attention if scaled else target.self_attn
    out = attention.o_proj if scaled else attention.out_proj
    pairs = [(attention.q_proj, q, qb), (attention.k_proj, k, kb), (attention.v_proj, v, vb)]
    first, second = (target.norm1, target.norm2) if scaled else (target.layer_norm1, target.layer_norm2)
    for module, own in (
        (out, ours.attn.proj),
        (first, ours.norm1),
        (second, ours.norm2),
        (target.mlp.fc1, ours.mlp.fc1),
        (target.mlp.fc2, ours.mlp.fc2),
    ):
        pairs.append((module, own.weight, own.bias))
    with torch.no_grad():
        for module, weight, bias in pairs:
            module.weight.copy_(weight)
            module.bias.copy_(bias)
        if scaled:
            target.layer_scale1.lambda1.copy_(ours.ls1.scale_factor)
            target.layer_scale2.lambda1.copy_(ours.ls2.scale_factor)


def test_dinov2_is_transformers_own(backbone):
    ours = backbone.model.vision_backbone.featurizer
    s = ours.sizes
    config = Dinov2WithRegistersConfig(
        hidden_size=s.width,
        num_hidden_layers=s.layers,
        num_attention_heads=s.heads,
        mlp_ratio=2,
        image_size=s.image,
        patch_size=s.patch,
        num_register_tokens=s.registers,
    )
    theirs = Dinov2WithRegistersModel(config).eval()
    with torch.no_grad():
        embeddings = theirs.embeddings
        embeddings.cls_token.copy_(ours.cls_token)
        embeddings.register_tokens.copy_(ours.reg_token)
        embeddings.position_embeddings.zero_()[:, 1:] = ours.pos_embed  # the class token has no position in OpenVLA's
        embeddings.patch_embeddings.projection.load_state_dict(ours.patch_embed.proj.state_dict())
    for own, target in zip(ours.blocks, theirs.encoder.layer, strict=True):
        block(own, target, scaled=True)
    pixels = torch.randn(2, 3, s.image, s.image)
    with torch.no_grad():
        expected = theirs(pixels, output_hidden_states=True).hidden_states[-2][:, 1 + s.registers :]
        torch.testing.assert_close(ours(pixels), expected, rtol=1e-4, atol=1e-5)


def test_siglip_is_transformers_own(backbone):
    ours = backbone.model.vision_backbone.fused_featurizer
    s = ours.sizes
    config = SiglipVisionConfig(
        hidden_size=s.width,
        intermediate_size=s.hidden,
        num_hidden_layers=s.layers,
        num_attention_heads=s.heads,
        image_size=s.image,
        patch_size=s.patch,
        hidden_act="gelu",  # timm's, with which OpenVLA was trained
    )
    theirs = SiglipVisionModel(config).eval()
    inner = getattr(theirs, "vision_model", theirs)
    with torch.no_grad():
        inner.embeddings.patch_embedding.load_state_dict(ours.patch_embed.proj.state_dict())
        inner.embeddings.position_embedding.weight.copy_(ours.pos_embed[0])
    for own, target in zip(ours.blocks, inner.encoder.layers, strict=True):
        block(own, target, scaled=False)
    pixels = torch.randn(2, 3, s.image, s.image)
    with torch.no_grad():
        expected = inner(pixels, output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(ours(pixels), expected, rtol=1e-4, atol=1e-5)


def test_the_whole_is_a_plain_assembly_of_its_parts(backbone):
    """One sample, no padding: first word, patches of one camera after the other, words; written as the published code
    puts them.
    """
    images = [image[:1] for image in pictures()]
    features = backbone.encode(images, TEXTS[:1])
    model, words = backbone.model, backbone.tokenizer
    patches = []
    for image in images:
        scaled = image[0].permute(2, 0, 1).float() / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        dino, siglip = (scaled - mean[:, None, None]) / std[:, None, None], (scaled - 0.5) / 0.5
        seen = [model.vision_backbone.featurizer(dino[None]), model.vision_backbone.fused_featurizer(siglip[None])]
        patches.append(model.projector(torch.cat(seen, dim=2)))
    text = "In: What action should the robot take to pick up the black bowl and place it on the plate?\nOut:"
    ids = torch.tensor([[words.bos_token_id, *words(text)["input_ids"]]])
    embedded = model.language_model.model.embed_tokens(ids)
    joint = torch.cat([embedded[:, :1], *patches, embedded[:, 1:]], dim=1)
    expected = model.language_model(inputs_embeds=joint, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(features.tokens, expected, rtol=1e-4, atol=1e-5)
    assert features.mask.all() and isinstance(backbone, Backbone)
    assert backbone.width == openvla_7b.feature_width(backbone.config) == features.tokens.shape[-1]


def test_pictures_are_resized_as_pil_does(backbone):
    large = pictures(size=60)[0][:1]
    small = np.asarray(Image.fromarray(large[0].numpy()).resize((28, 28), Image.Resampling.BICUBIC))
    expected = backbone._patches(torch.from_numpy(small.copy())[None])
    difference = (backbone._patches(large) - expected).abs()
    assert difference.mean() < 0.01 * expected.abs().mean()


def test_padding_stands_on_the_left_and_changes_nothing(backbone):
    images = pictures()
    together = backbone.encode(images, TEXTS)
    alone = backbone.encode([image[1:] for image in images], TEXTS[1:])
    assert not together.mask[1, 0] and together.mask[0].all() and together.mask[:, -1].all()
    torch.testing.assert_close(together.tokens[1][together.mask[1]], alone.tokens[0], rtol=1e-4, atol=1e-5)
    assert [backbone.length(text, 2) for text in TEXTS] == together.mask.sum(1).tolist()
    crossed = backbone.encode(images[::-1], TEXTS)
    assert not torch.allclose(crossed.tokens, together.tokens, atol=1e-2)


def test_saved_in_shards_it_comes_back_and_adapters_are_not_saved_with_it(backbone, tmp_path):
    add_adapters(backbone.language_model, 2)
    expected = backbone.encode(pictures(), TEXTS).tokens
    backbone.save(str(tmp_path / "saved"))
    tensors = load_file(tmp_path / "saved/model.safetensors")
    half = dict(list(tensors.items())[::2])
    save_file(half, tmp_path / "saved/model.safetensors")
    save_file({n: t for n, t in tensors.items() if n not in half}, tmp_path / "saved/model-2.safetensors")
    config = openvla_7b.Config(weights=str(tmp_path / "saved"))
    again = openvla_7b.build(config)
    assert torch.equal(again.encode(pictures(), TEXTS).tokens, expected)
    assert openvla_7b.feature_width(config) == backbone.width
    (tmp_path / "saved/model-2.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"is of another model, \d+ names differ: it lacks "):
        openvla_7b.build(config)


def test_what_is_not_openvla_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="come as random:tiny, found 'random:7b'"):
        openvla_7b.Config(weights="random:7b")
    with pytest.raises(MissingDependency, match="nowhere could not be loaded"):
        openvla_7b.build(openvla_7b.Config(weights=str(tmp_path / "nowhere")))
    values = {"vision_backbone_id": "clip-vit-l", "image_resize_strategy": "resize-naive", "text_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    for ask in (openvla_7b.feature_width, openvla_7b.build):
        with pytest.raises(
            MissingDependency, match="must say vision_backbone_id dinosiglip-vit-so-224px, found clip-vit-l"
        ):
            ask(openvla_7b.Config(weights=str(tmp_path)))


def linear(name, out, inside):
    return {f"{name}.weight": (out, inside), f"{name}.bias": (out,)}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def vision(name, width, layers, hidden, scaled):
    shapes = {f"{name}.patch_embed.proj.weight": (width, 3, 14, 14), f"{name}.patch_embed.proj.bias": (width,)}
    shapes |= {f"{name}.pos_embed": (1, 256, width)} | norm(f"{name}.norm", width)
    for i in range(layers):
        at = f"{name}.blocks.{i}"
        shapes |= norm(f"{at}.norm1", width) | norm(f"{at}.norm2", width)
        shapes |= linear(f"{at}.attn.qkv", 3 * width, width) | linear(f"{at}.attn.proj", width, width)
        shapes |= linear(f"{at}.mlp.fc1", hidden, width) | linear(f"{at}.mlp.fc2", width, hidden)
        if scaled:
            shapes |= {f"{at}.ls1.scale_factor": (width,), f"{at}.ls2.scale_factor": (width,)}
    return shapes


def published():
    """Names and shapes as tools that convert the published file read them."""
    shapes = vision("vision_backbone.featurizer", 1024, 24, 4096, scaled=True)
    shapes |= {"vision_backbone.featurizer.cls_token": (1, 1, 1024)}
    shapes |= {"vision_backbone.featurizer.reg_token": (1, 4, 1024)}
    shapes |= vision("vision_backbone.fused_featurizer", 1152, 27, 4304, scaled=False)
    pool = "vision_backbone.fused_featurizer.attn_pool"
    shapes |= {f"{pool}.latent": (1, 1, 1152)} | norm(f"{pool}.norm", 1152)
    shapes |= linear(f"{pool}.q", 1152, 1152) | linear(f"{pool}.kv", 2304, 1152) | linear(f"{pool}.proj", 1152, 1152)
    shapes |= linear(f"{pool}.mlp.fc1", 4304, 1152) | linear(f"{pool}.mlp.fc2", 1152, 4304)
    shapes |= linear("projector.fc1", 8704, 2176) | linear("projector.fc2", 4096, 8704)
    shapes |= linear("projector.fc3", 4096, 4096)
    root = "language_model.model"
    shapes |= {f"{root}.embed_tokens.weight": (32064, 4096), f"{root}.norm.weight": (4096,)}
    shapes |= {"language_model.lm_head.weight": (32064, 4096)}
    for i in range(32):
        at = f"{root}.layers.{i}"
        shapes |= {f"{at}.self_attn.{p}_proj.weight": (4096, 4096) for p in "qkvo"}
        shapes |= {f"{at}.mlp.{p}_proj.weight": (11008, 4096) for p in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": (4096, 11008)}
        shapes |= {f"{at}.{p}_layernorm.weight": (4096,) for p in ("input", "post_attention")}
    return shapes


def test_names_and_shapes_at_full_size_are_the_published_ones():
    """Nothing is allocated. 15,082,474,368 bytes is the total that the published index gives, at two bytes a number."""
    with torch.device("meta"):
        model = Prismatic(DINO, SIGLIP, LlamaConfig(vocab_size=32064))
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert found == published()
    assert 2 * sum(parameter.numel() for parameter in model.parameters()) == 15_082_474_368
