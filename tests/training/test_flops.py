"""Counted FLOPs are those that torch counts while the modules run."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lamp_model.model import MotionModel, PolicyModel, outline
from lamp_model.presets import paper, small, tiny
from lamp_model.training.flops import PEAKS, device_of, forward_flops, linear, sample_flops
from lamp_model.training.parameters import set_learning

TEXT, SIDE = "open the middle drawer of the cabinet", 64


def model_of(kind, **options):
    preset = tiny().model
    backbone = {**preset.backbone_options, "image_size": SIDE, "attention": "sdpa"}
    action = replace(preset.action, layers=2, width=32, heads=2, dropout=0.0)
    motion = replace(preset.motion, layers=2, heads=2, head_dim=16)
    config = replace(preset, backbone_options=backbone, action=action, motion=motion)
    return kind(replace(config, **options))


def images(count=1):
    return [torch.randint(0, 256, (count, SIDE, SIDE, 3), dtype=torch.uint8) for _ in range(2)]


def counted(work):
    """FLOPs that torch counts; its counter knows attention that is spelled out."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fusion": "add", "fusion_options": {}},
        {"fusion": "concat", "fusion_options": {}},
        {"fusion": "gated-tokens", "fusion_options": {"heads": 6, "layers": 2}},
        {"action_head": "binned", "action_head_options": {"bins": 16}},
    ],
)
def test_a_forward_pass_has_the_counted_flops_module_by_module(options):
    model = model_of(PolicyModel, **options).eval()
    tokens = model.qwen_vl_interface.length(TEXT, 2)
    expected = forward_flops(model, tokens)
    found, kept = {}, {}

    def encode():
        kept["features"] = model.encode(images(), [TEXT])

    found["backbone"] = counted(encode)
    features, head = kept["features"], model.motion_head
    noise = torch.randn(head.noise_shape(1))
    t = torch.full((1,), 0.5)
    found["motion_head"] = counted(lambda: head.velocity(noise, t * 1000, head.condition(features)))
    hidden = torch.randn(1, model.config.motion.tokens, model.config.motion.width)
    found["motion_guidance"] = counted(lambda: model.motion_guidance(features.tokens, hidden))
    action, state = torch.randn(1, 10, 7), torch.randn(1, 8)
    head = model.action_model

    def act():
        if hasattr(head, "bins"):
            head.scores(features, state)
        else:
            head.velocity(action, t, state, head.context(features))

    found["action_model"] = counted(act)
    expected["backbone"] = expected.pop("vision") + expected.pop("language")
    assert found == expected


@pytest.mark.parametrize("mode", ["none", "lora", "full"])
def test_a_training_step_of_stage_1_has_about_three_forward_passes_of_what_learns(mode):
    """Not exactly: the first layers need no gradient of their input, and torch counts what it recomputes."""
    training = replace(tiny().stage1, train_backbone=mode)
    model = model_of(MotionModel, lora_rank=2 if mode == "lora" else 0)
    modules = {"none": (), "lora": ("adapters",), "full": ("qwen_vl_interface",)}[mode]
    set_learning(model, ("motion_head", *modules))
    tokens = model.qwen_vl_interface.length(TEXT, 2)
    head = model.motion_head
    torch.nn.init.normal_(head.decoder.cogvideox.proj_out.weight)
    noise, t = torch.randn(head.noise_shape(1)), torch.full((1,), 0.5)

    def step():
        features = model.encode(images(), [TEXT])
        head.velocity(noise, t * 1000, head.condition(features)).square().mean().backward()

    expected = sum(sample_flops(model, training, tokens).values())
    assert counted(step) == pytest.approx(expected, rel=0.06)


def test_stage_2_counts_the_frozen_motion_once_an_evaluation():
    model = model_of(PolicyModel)
    once = sample_flops(model, tiny().stage2, 60)["motion_head"]
    more = replace(model.config.motion, guidance_steps=5)
    twice = sample_flops(model_of(PolicyModel, motion=more), tiny().stage2, 60)["motion_head"]
    joint = sample_flops(model, replace(tiny().stage2, objective="joint"), 60)["motion_head"]
    forward = forward_flops(model, 60)["motion_head"]
    assert forward < once < twice < 4 * once and joint == once + 3 * forward


@pytest.mark.parametrize(("preset", "weights"), [(paper, "random:4b"), (small, "random:2b")])
def test_large_models_are_counted_without_weights(preset, weights):
    """The language model of Qwen3-VL does about 2 FLOPs a weight and token, attention apart."""
    model = preset().model
    drawn = outline(PolicyModel, replace(model, backbone_options={**model.backbone_options, "weights": weights}))
    found = forward_flops(drawn, 187)
    layers = drawn.qwen_vl_interface.language_model.layers
    weighed = linear(sum(p.numel() for p in layers.parameters()), 1, 187)
    assert weighed == pytest.approx(found["language"], rel=0.03)
    assert all(count > 0 for count in found.values())


def test_devices_are_known_by_their_names():
    for name, kind in (
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
    ):
        assert device_of(name) == PEAKS[kind], name
    assert device_of("NVIDIA T4") is None
