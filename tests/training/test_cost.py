"""What training and acting must not pay for: activations of frozen parts, rounding weights again and again, breaks in a
graph.
"""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from fixtures.vlm import write_model

from lamp_model.backbones import openvla_7b, qwen3_vl, transformers_vlm
from lamp_model.features import Features
from lamp_model.model import PolicyModel
from lamp_model.model_config import ActionConfig, ModelConfig, MotionConfig
from lamp_model.networks.action_transformer import ActionExpert
from lamp_model.networks.lora import add_adapters
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.training.parameters import set_learning, training_mode

MOTION = MotionConfig(layers=2, heads=2, head_dim=16, time_channels=32, patch_size=10, dropout=0.1)
ACTION = ActionConfig(layers=2, width=32, heads=2, positions=128)


@pytest.fixture(scope="module")
def policy():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = {"weights": "random:tiny", "image_size": 64, "min_pixels": 0}
    model = PolicyModel(
        ModelConfig(backbone_options=options, motion=MOTION, fusion_options={"heads": 6}, action=ACTION)
    )
    torch.nn.init.normal_(model.action_model.action_decoder.weight, std=0.2)
    torch.nn.init.normal_(model.motion_head.decoder.cogvideox.proj_out.weight, std=0.2)
    return model


def inputs(policy, batch=2):
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (batch, 64, 64, 3), dtype=torch.uint8, generator=generator) for _ in range(2)]
    return images, ["open the drawer"] * batch, policy.motion_noise(batch, generator)


class Kept:
    """Counts the numbers that autograd keeps for a backward pass."""

    def __enter__(self):
        self.numbers = 0

        def keep(tensor):
            if not tensor.is_leaf:  # weights are there anyway
                self.numbers += tensor.numel()
            return tensor

        self.hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *exception):
        self.hooks.__exit__(*exception)


def test_stage_2_keeps_no_activations_of_what_is_frozen(policy):
    parts = ("motion_guidance", "action_model")
    set_learning(policy, parts)
    training_mode(policy, parts)
    images, texts, noise = inputs(policy)
    with Kept() as frozen:
        features = policy.encode(images, texts)
        hidden = policy.guidance_state(features, noise)
    assert frozen.numbers == 0
    with Kept() as learning:
        policy.action_model.context(policy.guide(features, hidden))
    assert learning.numbers > 0


def loss_of_action(expert):
    generator = torch.Generator().manual_seed(3)
    guided = Features(torch.randn(2, 9, 6, generator=generator), None)
    noisy, state = torch.randn(2, 10, 7, generator=generator), torch.randn(2, 8, generator=generator)
    return (expert.velocity(noisy, torch.full((2,), 0.4), state, expert.context(guided)) ** 2).sum()


def loss_of_motion(expert):
    generator = torch.Generator().manual_seed(3)
    conditioning = expert.condition(Features(torch.randn(2, 9, 6, generator=generator), None))
    noise = torch.randn(expert.noise_shape(2), generator=generator)
    return (expert.velocity(noise, torch.full((2,), 300.0), conditioning) ** 2).sum()


@pytest.mark.parametrize(
    ("make", "loss", "network"),
    [
        (lambda: ActionExpert(ACTION, 6), loss_of_action, lambda m: m),
        (lambda: MotionExpert(replace(MOTION, layers=4), 6), loss_of_motion, lambda m: m.decoder.cogvideox),
    ],
)
def test_checkpointed_activations_give_the_same_gradients_from_less_memory(make, loss, network):
    torch.manual_seed(0)
    expert = make().train()  # dropout on: the second computation must drop the same
    for parameter in expert.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    found = []
    for checkpointing in (False, True):
        network(expert).checkpointing = checkpointing
        torch.manual_seed(5)
        with Kept() as kept:
            value = loss(expert)
        expert.zero_grad()
        value.backward()
        gradients = {n: p.grad.clone() for n, p in expert.named_parameters() if p.grad is not None}
        found.append((kept.numbers, value.detach(), gradients))
    (much, loss_1, gradients_1), (little, loss_2, gradients_2) = found
    assert torch.equal(loss_1, loss_2) and gradients_1.keys() == gradients_2.keys()
    assert all(torch.equal(gradients_1[name], gradients_2[name]) for name in gradients_1)
    assert little < much / 2


def made_backbone(name, folder):
    if name == "transformers-vlm":
        config = transformers_vlm.Config(weights=str(write_model("llava", folder)), image_size=40)
        return transformers_vlm.build(config)
    plugin = qwen3_vl if name == "qwen3-vl" else openvla_7b
    return plugin.build(plugin.Config(weights="random:tiny"))


@pytest.mark.parametrize("name", ["qwen3-vl", "openvla-7b", "transformers-vlm"])
def test_checkpointing_covers_the_backbones_layers_where_adapters_learn(name, tmp_path):
    torch.set_num_threads(1)
    backbone = made_backbone(name, tmp_path)
    add_adapters(backbone.language_model, 4)
    adapters = {n: p for n, p in backbone.named_parameters() if ".lora_" in n}
    for parameter in adapters.values():
        torch.nn.init.normal_(parameter, std=0.1)
    images = [torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8) for _ in range(2)]
    found = []
    for checkpointing in (False, True, False):
        backbone.checkpoint_activations(checkpointing)
        with Kept() as kept:
            features = backbone.encode(images, ["open the drawer", "open it"])
            loss = features.tokens[features.mask].square().sum()
        loss.backward()
        found.append((kept.numbers, loss.detach(), {n: p.grad.clone() for n, p in adapters.items()}))
        backbone.zero_grad()
    assert found[0][0] == found[2][0] and found[1][0] < found[0][0] / 2
    for _, loss, gradients in found[1:]:
        assert torch.equal(loss, found[0][1])
        assert all(torch.equal(gradients[n], found[0][2][n]) and gradients[n].any() for n in adapters)


def test_at_the_published_size_checkpointed_adapters_keep_a_fortieth():
    """Without weights: tensors on the meta device have sizes and no values. 9.7 GiB become 0.26 in bfloat16, for a
    batch of 8.
    """
    with torch.device("meta"):
        backbone = qwen3_vl.build(qwen3_vl.Config(weights="random:4b"))
        add_adapters(backbone.language_model, 64)
    backbone.to("meta").to_device(torch.device("meta"), torch.bfloat16)
    images = [torch.zeros(8, 224, 224, 3, dtype=torch.uint8, device="meta")] * 2
    kept = []
    for checkpointing in (False, True):
        backbone.checkpoint_activations(checkpointing)
        storages = {}

        def keep(tensor, storages=storages):
            if not tensor.is_leaf:
                storage = tensor.untyped_storage()  # held, so that its number stays its own
                storages[storage._cdata] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = backbone.encode(images, ["pick up the black bowl and place it on the plate"] * 8)
        assert features.tokens.shape == (8, 187, 2560) and features.tokens.requires_grad
        kept.append(sum(storage.nbytes() for storage in storages.values()))
    assert kept[1] < kept[0] / 30 and kept[1] < 2**29


def test_a_policys_checkpointing_reaches_its_backbone(policy):
    layers = policy.qwen_vl_interface.language_model.layers
    for on in (True, False):
        policy.checkpoint_activations(on)
        assert all(("forward" in vars(layer)) == on for layer in layers)


def test_weights_rounded_once_are_those_that_autocast_rounds_every_time(policy):
    """On a CPU, where autocast to bfloat16 follows the same rules."""
    policy = policy.eval()
    images, texts, noise = inputs(policy, 1)
    state, start = torch.zeros(1, 8), policy.action_noise(1, torch.Generator().manual_seed(2))

    def act():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            guided = policy.guided_features(policy.encode(images, texts), noise)
            return policy.act(guided, state, start)

    before = act()
    with torch.inference_mode():
        exact = policy.act(policy.guided_features(policy.encode(images, texts), noise), state, start)
    policy.round_weights()
    assert torch.equal(act(), before) and not torch.equal(before, exact)
    assert policy.motion_guidance.gate.dtype == policy.action_model.pos_emb.dtype == torch.float32


CAPTURE = """
import torch
from lamp_model.networks.action_transformer import ActionConfig, ActionExpert
from lamp_model.networks.lora import add_adapters
from lamp_model.backbones import qwen3_vl
from lamp_model.features import Features
from lamp_model.networks.motion_expert import MotionConfig, MotionExpert

torch.set_num_threads(1)
motion = MotionExpert(MotionConfig(layers=1, heads=2, head_dim=16, time_channels=32, patch_size=10), 6).eval()
action = ActionExpert(ActionConfig(layers=2, width=32, heads=2, positions=128), 6).eval()
for module in (motion, action):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
features = Features(torch.randn(1, 9, 6), torch.ones(1, 9, dtype=torch.bool))
noise, noisy, state = torch.randn(motion.noise_shape(1)), torch.randn(1, 10, 7), torch.zeros(1, 8)
backbone = qwen3_vl.build(qwen3_vl.Config(weights="random:tiny", image_size=64, min_pixels=0))
add_adapters(backbone.language_model, 4)
language, vision = backbone.language_model, backbone.model.model.visual
language.layers, vision.blocks = language.layers[:1], vision.blocks[:1]  # the others are alike and take their time
images, texts = [torch.zeros(2, 64, 64, 3, dtype=torch.uint8)], ["open the drawer", "open it"]

@torch.inference_mode()
def numbers():
    t = torch.full((1,), 0.4)
    seen = backbone.encode(images, texts).tokens
    return seen, motion.guidance_state(features, noise), action.velocity(noisy, t, state, action.context(features))

plain = numbers()
for module in (motion.decoder.cogvideox, action):
    module.compile(backend="eager", fullgraph=True)
asked = torch.compile
torch.compile = lambda function, mode, fullgraph: asked(function, backend="eager", fullgraph=fullgraph)
backbone.compile_forward("default")
torch.testing.assert_close(numbers(), plain)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 3
"""


def test_the_backbone_and_the_experts_are_one_graph_each():
    """``fullgraph`` refuses whatever would make the host wait for the device. In a process of its own: the tests' type
    checks break graphs."""
    ran = subprocess.run([sys.executable, "-c", CAPTURE], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_an_unknown_mode_of_compilation_is_refused(policy):
    with pytest.raises(ValueError, match=r"compile must be one of .*reduce-overhead.*, found 'fast'"):
        policy.compile_parts("fast")
