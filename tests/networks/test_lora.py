"""Adapters in the backbone: they begin without effect, learn alone, and are all of the backbone that a run keeps."""

import numpy as np
import pytest
import torch
from fixtures.shard import write_shards
from training.test_model_training import OPTIONS, observation, smaller

from jobs.cli.exit_codes import UsageError
from jobs.commands.export import Export, export_command
from lamp_model.backbones import qwen3_vl
from lamp_model.networks.lora import ADAPTERS, add_adapters, is_adapter, module_of
from lamp_model.policy import load_policy
from lamp_model.storage.checkpoints import read_tensors, steps_in
from lamp_model.training.parameters import describe_learning, set_learning
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from lamp_model.training.trainer import Trainer

RANK = {"lora_rank": 4}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def backbone():
    return qwen3_vl.build(qwen3_vl.Config(weights="random:tiny", image_size=64, min_pixels=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards, a run of stage 1, and one of stage 2 with adapters."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("adapters")
    write_shards(folder / "shards", episodes=3, frames=2)
    run(folder, "stage1", stage=1)
    run(folder, "whole")
    return folder


def run(folder, name, stage=2, resume=False, motion="stage1", prior=None, **options):
    rank = RANK if stage == 2 else {}
    given = {**rank, **options} if resume else {**OPTIONS, "steps": 4, **rank, **options}
    first = None if stage == 1 or prior == "none" else folder / motion
    request = Request(
        stage,
        folder / "shards",
        folder / name,
        first,
        options=given,
        prior=prior,
        resume=resume,
        device="cpu",
    )
    prepared = prepare(request)
    train(prepared if resume else smaller(prepared))
    return folder / name


def features(backbone):
    images = [torch.from_numpy(image)[None] for image in observation()[0]]
    return backbone.encode(images, ["open the drawer"]).tokens


def test_fresh_adapters_change_nothing_and_stand_beside_query_and_key_of_the_language_model_only(backbone):
    before = features(backbone)
    layers = backbone.model.config.text_config.num_hidden_layers
    add_adapters(backbone.language_model, 4)
    assert torch.equal(features(backbone), before)
    names = {n for n, _ in backbone.named_parameters() if is_adapter(n)}
    expected = {
        f"model.model.language_model.layers.{layer}.self_attn.{projection}.lora_{factor}.default.weight"
        for layer in range(layers)
        for projection in ("q_proj", "k_proj")
        for factor in "AB"
    }
    assert names == expected
    assert all(min(p.shape) == 4 for n, p in backbone.named_parameters() if is_adapter(n))


def test_an_adapter_adds_the_product_of_its_factors(backbone):
    """At the scale of 1: the same as adding B A to the frozen weights."""
    plain = qwen3_vl.build(backbone.config)
    add_adapters(backbone.language_model, 4)
    layer, same = (b.model.model.language_model.layers[1].self_attn.q_proj for b in (backbone, plain))
    torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.3)
    with torch.no_grad():
        same.weight += layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    found, expected = features(backbone), features(plain)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, features(qwen3_vl.build(backbone.config)), atol=1e-2)


def test_gradients_reach_adapters_and_nothing_else_of_the_backbone(backbone):
    add_adapters(backbone.language_model, 4)
    model = torch.nn.ModuleDict({"qwen_vl_interface": backbone, "action_model": torch.nn.Linear(2, 2)})
    learning = set_learning(model, ("action_model", ADAPTERS))
    assert {module_of(name) for name in learning} == {"action_model", ADAPTERS}
    said = describe_learning(model, learning)
    assert said.startswith("learns: adapters 0.01 M, action_model") and "frozen: qwen_vl_interface" in said
    features(backbone).square().mean().backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None}
    assert touched and all(is_adapter(name) for name in touched)
    assert not any(module.training for module in backbone.modules())


def test_a_run_keeps_adapters_and_heads_only_and_acts_with_them(folder):
    weights = read_tensors(folder / "whole/model.safetensors")
    assert {module_of(name) for name in weights} == {"motion_guidance", "action_model", ADAPTERS}
    assert any(tensor.any() for name, tensor in weights.items() if ".lora_B." in name), "they have learnt"
    step = f"step-{steps_in(folder / 'whole/checkpoints')[-1]:06d}"
    assert set(read_tensors(folder / "whole/checkpoints" / step / "weights.safetensors")) == set(weights)
    assert not any("lora" in name for name in read_tensors(folder / "whole/backbone/model.safetensors"))
    images, state = observation()
    policy = load_policy(folder / "whole", device="cpu")
    loaded = policy.model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    actions = policy.predict(images, "open", state)
    before = features(policy.model.qwen_vl_interface)
    for name, parameter in policy.model.named_parameters():
        if ".lora_B." in name:
            parameter.data.zero_()
    assert not torch.equal(features(policy.model.qwen_vl_interface), before)
    assert np.isfinite(actions).all()


def test_killed_and_resumed_it_ends_with_the_same_bits(folder, monkeypatch):
    step = Trainer.step

    class Killed(BaseException):
        pass

    def until_killed(self, batch):
        if self.done == 3:
            raise Killed
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", until_killed)
    with pytest.raises(Killed):
        run(folder, "killed")
    monkeypatch.undo()
    run(folder, "killed", resume=True)
    expected, found = (read_tensors(folder / name / "model.safetensors") for name in ("whole", "killed"))
    assert set(found) == set(expected) and all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="begun with lora-rank 4 and not 8"):
        run(folder, "killed", resume=True, lora_rank=8)


def test_adapters_learn_beside_a_joint_motion_and_without_any(folder):
    """Where the objective is joint the motion's loss teaches the adapters; where there is no motion the backbone is
    made here.
    """
    made = run(folder, "joint", objective="joint", motion_rate=1e-4, steps=1, val_fraction=0.0)
    parts = {module_of(name) for name in read_tensors(made / "model.safetensors")}
    assert parts == {"motion_guidance", "action_model", "motion_head", ADAPTERS}
    made = run(
        folder,
        "alone",
        prior="none",
        lora_rank=4,
        action_head="binned:bins=16",
        steps=1,
        val_fraction=0.0,
    )
    images, state = observation()
    assert load_policy(made, device="cpu").predict(images, "open", state).shape == (10, 7)


def test_what_has_no_place_for_adapters_refuses_them(folder):
    with pytest.raises(UsageError, match="adapters of rank 4; the published layout knows flow-matching without"):
        export_command(Export(folder / "whole", folder / "export"))
    with pytest.raises(ValueError, match=r"cannot go into q_proj: Linear has no linear layer of that name"):
        add_adapters(torch.nn.Linear(2, 2), 4)
