"""Training from shards to a policy that acts, and what must hold on the way."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.shard import ACTION, SIZE, STATE, write_shards

from lamp_model.data.sample import SampleConfig
from lamp_model.errors import BadRun
from lamp_model.policy import load_policy
from lamp_model.storage.checkpoints import read_tensors, steps_in
from lamp_model.training import run as running
from lamp_model.training.data_setup import embodiments_in
from lamp_model.training.metrics import read_metrics
from lamp_model.training.parameters import check_learning, describe_learning, set_learning
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from lamp_model.training.trainer import Trainer

OPTIONS = {
    "batch_size": 2,
    "steps": 6,
    "checkpoint_every": 2,
    "validate_every": 3,
    "log_every": 1,
    "learning_rate": 1e-3,
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), episodes=3, frames=2)


def smaller(prepared):
    """Sizes for a test: one layer each and motion tokens of 10 x 10 keypoints. Dropout stays on, to be caught."""
    if prepared.config.motion_run:
        action = replace(prepared.config.model.action, layers=1, width=32, heads=2)
        model = replace(prepared.config.model, action=action)
    else:
        motion = replace(prepared.config.model.motion, layers=1, heads=2, head_dim=16, patch_size=10, dropout=0.1)
        options = {**prepared.config.model.backbone_options, "image_size": 64}
        model = replace(prepared.config.model, motion=motion, backbone_options=options)
    return replace(prepared, config=replace(prepared.config, model=model))


def request(stage, data, output, motion=None, resume=False, **options):
    return Request(stage, data, output, motion, options={**OPTIONS, **options}, resume=resume, device="cpu")


def trained(stage, data, output, motion=None, **options):
    return train(smaller(prepare(request(stage, data, output, motion, **options))))


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    trained(1, data, folder / "stage1")
    trained(2, data, folder / "stage2", folder / "stage1")
    return folder


def observation():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(2)], np.zeros(STATE, np.float32)


def test_a_run_leaves_what_it_says(runs):
    left = {p.name for p in (runs / "stage2").iterdir() if p.name != ".lock"}
    assert left == {
        "backbone",
        "checkpoints",
        "config.json",
        "curves.png",
        "metrics.jsonl",
        "model.safetensors",
        "model.safetensors.sha256",
        "motion.safetensors",
        "motion.safetensors.sha256",
        "statistics.json",
    }
    assert (runs / "stage2/curves.png").read_bytes()[:4] == b"\x89PNG"
    assert steps_in(runs / "stage1/checkpoints") == [4, 6]
    names = {name.split(".")[0] for name in read_tensors(runs / "stage2/model.safetensors")}
    assert names == {"motion_guidance", "action_model"}


def test_metrics_say_what_a_person_wants_to_know(runs):
    first, second = (read_metrics(runs / f"stage{n}/metrics.jsonl") for n in (1, 2))
    assert [line["step"] for line in first if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in first if "val_loss" in line] == [0, 3, 6]
    rollout = {
        f"{who}_{unit}_{group}" for who in ("rollout", "still") for unit in ("px", "m") for group in ("all", "moving")
    }
    assert rollout <= set(first[-1]) and {"action_error", "mean_action_error"} <= set(second[-1])
    assert {"learning_rate", "gradient_norm", "samples_per_second"} <= set(first[1])


def test_the_policy_acts(runs):
    policy = load_policy(runs / "stage2", device="cpu")
    images, state = observation()
    actions = policy.predict(images, "open the drawer", state)
    assert actions.shape == (10, ACTION) and actions.dtype == np.float32
    low, high = np.array(policy.action_range.low), np.array(policy.action_range.high)
    assert (actions >= low - 1e-6).all() and (actions <= high + 1e-6).all()
    assert np.array_equal(policy.predict(images, "open the drawer", state), actions)
    assert not np.array_equal(policy.predict(images, "open the drawer", state, seed=1), actions)
    with_motion, motion = policy.predict(images, "open the drawer", state, return_motion=True)
    assert np.array_equal(with_motion, actions) and motion.shape == (400, 32, 3)
    assert not any(module.training for module in policy.model.modules())


def test_a_run_can_be_moved(runs, tmp_path):
    images, state = observation()
    expected = load_policy(runs / "stage2", device="cpu").predict(images, "x", state)
    shutil.copytree(runs / "stage2", tmp_path / "elsewhere")
    assert np.array_equal(load_policy(tmp_path / "elsewhere", device="cpu").predict(images, "x", state), expected)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": lambda i: i[:1]}, r"2 images \(image, wrist\), found 1"),
        ({"images": lambda i: [i[0].astype(np.float32), i[1]]}, "'image' must be a uint8 array"),
        ({"images": lambda i: [i[0], i[1][..., 0]]}, "'wrist' must be a uint8 array"),
        ({"instruction": lambda _: "  "}, "instruction is empty"),
        (
            {"instruction": lambda _: "open " * 600},
            r"instruction is too long: .* \d+ tokens, the policy has room for 502",
        ),
        ({"state": lambda s: s[:7]}, "state must be 8 numbers"),
        ({"state": lambda s: s * np.nan}, "not finite"),
    ],
)
def test_wrong_observations_are_refused_in_a_sentence(runs, change, says):
    policy = load_policy(runs / "stage2", device="cpu")
    images, state = observation()
    inputs = {"images": images, "instruction": "open", "state": state}
    inputs |= {name: change[name](inputs[name]) for name in change}
    with pytest.raises(ValueError, match=says):
        policy.predict(**inputs)


@pytest.mark.parametrize(("stage", "killed_after"), [(1, 3), (1, 5), (2, 3)])
def test_kill_and_resume_gives_the_same_losses_and_weights(data, runs, tmp_path, monkeypatch, stage, killed_after):
    """Killed between checkpoints, so steps are repeated; dropout, noise and order must repeat too."""
    folder, whole = tmp_path / "run", runs / f"stage{stage}"
    step = Trainer.step

    class Killed(BaseException):
        pass

    def until_killed(self, batch):
        if self.done == killed_after:
            raise Killed
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", until_killed)
    with pytest.raises(Killed):
        trained(stage, data, folder, runs / "stage1" if stage == 2 else None)
    monkeypatch.undo()
    assert steps_in(folder / "checkpoints") and not (folder / "model.safetensors").exists()
    train(prepare(Request(stage, None, folder, resume=True, device="cpu")))
    expected, found = read_tensors(whole / "model.safetensors"), read_tensors(folder / "model.safetensors")
    assert set(found) == set(expected) and all(torch.equal(found[name], expected[name]) for name in expected)

    def losses(run: Path):
        wanted = ("step", "loss", "val_loss", "gradient_norm")
        return [{k: line[k] for k in wanted if k in line} for line in read_metrics(run / "metrics.jsonl")]

    assert losses(folder) == losses(whole)


def test_the_seed_decides(data, runs, tmp_path):
    trained(1, data, tmp_path / "same", steps=6)
    trained(1, data, tmp_path / "other", steps=6, seed=1)
    weights = [read_tensors(f / "model.safetensors") for f in (runs / "stage1", tmp_path / "same", tmp_path / "other")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_stage_2_changes_guidance_and_action_expert_and_nothing_else(data, runs, tmp_path):
    prepared = smaller(prepare(request(2, data, tmp_path / "run", runs / "stage1")))
    prepared.folder.mkdir()
    stage = running._build(prepared, running._statistics(prepared))
    loader, _ = running._loaders(prepared)
    trainer = Trainer(stage, prepared.config.training, prepared.folder, loader, None)
    before = {name: tensor.clone() for name, tensor in stage.model.state_dict().items()}
    assert {name.split(".")[0] for name in trainer.learning} == {"motion_guidance", "action_model"}
    assert not any(m.training for m in stage.model.motion_head.modules()), "its dropout would stay on while it guides"
    for step in range(2):
        trainer.step(loader.batch(step))
    changed = {name for name, tensor in stage.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in changed} == {"motion_guidance", "action_model"}
    assert "motion_guidance.gate" in changed
    kept = read_tensors(runs / "stage1/model.safetensors")
    assert all(torch.equal(stage.model.state_dict()[name], tensor) for name, tensor in kept.items())


def test_whose_instructions_are_learnt_from_is_asked_for_and_kept(data, tmp_path):
    for options, wanted in (({}, False), ({"instructions": "own"}, False), ({"instructions": "all"}, True)):
        prepared = prepare(request(1, data, tmp_path / "run", **options))
        taken = running._loaders(prepared)[0].config
        first = prepared.data.read(0)
        config = taken if isinstance(taken, SampleConfig) else taken(0, first)
        assert config.generated is wanted


def test_training_guides_by_the_same_call_as_inference(runs, data, monkeypatch):
    from lamp_model.networks.motion_expert import MotionExpert

    calls = []
    original = MotionExpert.guidance_state
    monkeypatch.setattr(
        MotionExpert, "guidance_state", lambda self, *a: calls.append(torch.is_grad_enabled()) or original(self, *a)
    )
    policy = load_policy(runs / "stage2", device="cpu")
    images, state = observation()
    policy.predict(images, "x", state)
    prepared = prepare(request(2, data, runs / "unused", runs / "stage1"))
    loader, _ = running._loaders(prepared)
    from lamp_model.training.stages import PolicyStage

    stage = PolicyStage(policy.model, embodiments_in(prepared.data, prepared.config.data))
    stage.losses(loader.batch(0), stage.draw(2, torch.Generator().manual_seed(0)))
    assert calls == [False, False]


def test_the_wrong_parameters_learning_is_a_bug_that_shows():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Sequential(torch.nn.Dropout(0.5))})
    learning = set_learning(model, ("a",))
    assert describe_learning(model, learning) == "learns: a 0.00 M; frozen: nothing"
    model["b"].train()
    with pytest.raises(AssertionError, match="frozen but in training mode"):
        check_learning(model, learning, ("a",))
    model["b"].eval()
    model["a"].weight.requires_grad_(False)
    with pytest.raises(AssertionError, match="other parameters would learn"):
        check_learning(model, learning, ("a",))


def test_padding_mask_keeps_a_batch_from_changing_a_sample(runs):
    """And the mode of the published checkpoints does not."""
    masked = load_policy(runs / "stage2", device="cpu").model
    # Learnt weights are nearly blind after six steps: let the conditioning speak.
    torch.nn.init.normal_(masked.motion_head.decoder.cogvideox.proj_out.weight, std=0.5)
    images = [torch.from_numpy(image)[None] for image in observation()[0]]
    noise = torch.randn(masked.motion_head.noise_shape(1), generator=torch.Generator().manual_seed(0))
    texts = ["open the drawer", "pick up the black bowl between the plate and the ramekin and place it on the plate"]

    def difference(model):
        alone = model.encode(images, texts[:1])
        both = model.encode([image.expand(2, -1, -1, -1) for image in images], texts)
        with torch.no_grad():
            one = model.guidance_state(alone, noise)
            two = model.guidance_state(both, noise.expand(2, -1, -1, -1, -1))[:1]
        return float((one - two).abs().max())

    assert difference(masked) < 1e-4
    masked.config = replace(masked.config, padding="repeat")
    assert difference(masked) > 1e-3


def test_refusals_before_any_work(data, runs, tmp_path):
    def refused(says, *args, **options):
        with pytest.raises(ValueError, match=says):
            prepare(request(*args, **options))

    refused("already holds a run of stage 1: add --resume", 1, data, runs / "stage1")
    refused(
        "no run at .*nowhere: train it first with lamp-train --stage 1", 2, data, tmp_path / "x", tmp_path / "nowhere"
    )
    refused("holds a run of stage 2, a run of stage 1 was expected", 2, data, tmp_path / "x", runs / "stage2")
    refused("was begun with batch-size 2 and not 4", 1, data, runs / "stage1", resume=True, batch_size=4)
    refused("has 6 steps, and they may be raised only: found --steps 5", 1, data, runs / "stage1", resume=True, steps=5)
    refused("steps must be positive", 1, data, tmp_path / "x", steps=0)
    refused("learning-rate must be positive", 1, data, tmp_path / "x", learning_rate=-1.0)
    other = write_shards(tmp_path / "other", episodes=2, frames=2)
    refused("was begun on other shards", 1, other, runs / "stage1", resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter").write_text("dear")
    refused("is not empty and is no run", 1, data, tmp_path / "full")
    with pytest.raises(BadRun, match="holds a run of stage 1, a run of stage 2 was expected"):
        load_policy(runs / "stage1")
    unfinished = shutil.copytree(runs / "stage2", tmp_path / "unfinished")
    (unfinished / "model.safetensors").unlink()
    with pytest.raises(BadRun, match="has not finished: go on with"):
        load_policy(unfinished)
    (unfinished / "config.json").write_text(json.dumps({"preset": "tiny"}))
    with pytest.raises(BadRun, match=r"config\.json is no config of a run"):
        load_policy(unfinished)


def test_one_camera_is_enough(tmp_path):
    data = write_shards(tmp_path / "shards", episodes=2, frames=2, wrist=False)
    assert prepare(request(1, data, tmp_path / "run")).config.model.cameras == ("image",)
    trained(1, data, tmp_path / "run", steps=1)


def test_one_episode_trains_without_validation(tmp_path):
    data = write_shards(tmp_path / "shards", episodes=1, frames=3)
    assert trained(1, data, tmp_path / "run", steps=1) == {}
