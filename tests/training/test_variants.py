"""Ablations and variants: each trains, loads and does what its name says; what cannot be is refused before anything is
loaded.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.shard import write_shards
from training.test_model_training import OPTIONS, observation, smaller

from jobs.cli.exit_codes import UsageError
from jobs.cli.train_options import Train
from jobs.commands.train import train_command
from lamp_model.data.dataset import TrainingData
from lamp_model.data.sample import decode_image
from lamp_model.data.split import split_members
from lamp_model.errors import BadRun
from lamp_model.features import Features
from lamp_model.model_config import MotionConfig
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.networks.motion_layout import pack
from lamp_model.options import plugin_options
from lamp_model.policy import load_policy
from lamp_model.published.export import check_expressible
from lamp_model.storage.checkpoints import read_tensors
from lamp_model.storage.run_folder import read_config
from lamp_model.training import run as running
from lamp_model.training.data_setup import embodiments_in
from lamp_model.training.request import OPTIONS as EVERY
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from lamp_model.training.stages import PolicyStage
from schemas.plugins import PluginChoice, plugin_names

FUSION = EVERY["fusion"].option.plugin
SMALL = MotionConfig(layers=2, heads=2, head_dim=16, time_channels=32, grid=4, horizon=8, conditioning_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards and a run of stage 1."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("variants")
    write_shards(folder / "shards", episodes=3, frames=2)
    run(folder, 1, "stage1")
    return folder


def run(folder, stage, name, resume=False, motion=None, prior=None, **options):
    motion = motion or (folder / "stage1" if stage == 2 else None)
    motion = None if prior == "none" else motion
    given = options if resume else {**OPTIONS, "steps": 2, **options}
    request = Request(
        stage, folder / "shards", folder / name, motion, prior, options=given, resume=resume, device="cpu"
    )
    prepared = prepare(request)
    if prior == "none" and not resume:
        options = {**prepared.config.model.backbone_options, "image_size": 64}
        action = replace(prepared.config.model.action, layers=1, width=32, heads=2)
        model = replace(prepared.config.model, backbone_options=options, action=action)
        prepared = replace(prepared, config=replace(prepared.config, model=model))
    elif not resume:
        prepared = smaller(prepared)
    train(prepared)
    return folder / name


def test_every_fusion_trains_and_acts(folder):
    images, state = observation()
    said = []
    for name in plugin_names("lamp_model.fusions"):
        made = run(folder, 2, f"fusion-{name}", fusion=name)
        assert read_config(made).model.fusion == name
        said.append(load_policy(made, device="cpu").predict(images, "open", state))
    assert all(not np.array_equal(one, two) for i, one in enumerate(said) for two in said[:i])
    made = run(folder, 2, "layers", fusion="gated-tokens:layers=2")
    names = {name.split(".")[2] for name in read_tensors(made / "model.safetensors") if ".layers." in name}
    assert names == {"0", "1"}


def test_a_policy_without_motion_needs_no_stage_1(folder):
    made = run(folder, 2, "no-motion", prior="none")
    assert not (made / "motion.safetensors").exists() and (made / "backbone").is_dir()
    assert {name.split(".")[0] for name in read_tensors(made / "model.safetensors")} == {"action_model"}
    policy = load_policy(made, device="cpu")
    images, state = observation()
    assert policy.predict(images, "open", state).shape == (10, 7)
    with pytest.raises(ValueError, match="no motion to return"):
        policy.predict(images, "open", state, return_motion=True)


def test_policies_with_and_without_motion_begin_alike_and_train_on_the_same_noise(folder):
    """So what differs between them is the guidance."""
    first, drawn = [], []
    for prior in (None, "none"):
        name = f"alike-{prior}"
        run(folder, 2, name, prior=prior, learning_rate=1e-12, minimum_rate=0.0)
        policy = load_policy(folder / name, device="cpu")
        assert policy.model.config.guided is (prior is None)
        first.append({n: p for n, p in policy.model.action_model.state_dict().items() if "feature" not in n})
        stage = PolicyStage(
            policy.model, embodiments_in(TrainingData(folder / "shards"), read_config(folder / name).data)
        )
        drawn.append(stage.draw(3, torch.Generator().manual_seed(5))["action"])
    assert first[0] and all(torch.allclose(first[0][n], first[1][n], atol=1e-9) for n in first[0])
    assert all(torch.equal(drawn[0][n], drawn[1][n]) for n in drawn[0])


def test_features_are_standardised_for_the_policy_over_its_training_set(folder):
    made = run(folder, 2, "standardised", prior="none", policy_feature_norm="index")
    policy = load_policy(made, device="cpu")
    names = {name for name in read_tensors(made / "model.safetensors") if name.startswith("feature_norm")}
    assert names == {"feature_norm.mean", "feature_norm.std"}
    numbers, _ = split_members(data := TrainingData(folder / "shards"), 0.1)
    shown = [[decode_image(data.read(int(n)), role) for role in policy.cameras] for n in numbers]
    images = [torch.from_numpy(np.stack(camera)) for camera in zip(*shown, strict=True)]
    texts = [data.read(int(n)).instructions[0] for n in numbers]
    with torch.no_grad():
        features = policy.model.encode(images, texts)
        taken = policy.model.guided_features(features, None)
    assert taken.mask is not None
    picture = taken.mask.cumsum(1) == 5
    assert features.tokens[picture].mean(0).abs().mean() > 5 * taken.tokens[picture].mean(0).abs().mean()
    images, state = observation()
    assert policy.predict(images, "open", state).shape == (10, 7)
    with pytest.raises(BadRun, match="--policy-feature-norm index, which the published layout does not know"):
        check_expressible(made, replace(read_config(made).model, guided=True))


def test_with_depth_masked_it_neither_enters_nor_leaves():
    torch.manual_seed(0)
    expert = MotionExpert(replace(SMALL, depth=False), 10).eval().requires_grad_(False)
    torch.nn.init.normal_(expert.decoder.cogvideox.proj_out.weight, std=0.2)
    noise, seen = torch.randn(expert.noise_shape(1)), Features(torch.randn(1, 5, 10), None)
    other = torch.zeros(1, 16, 8, 3)
    other[..., 2] = torch.randn(1, 16, 8)
    assert torch.equal(expert.guidance_state(seen, noise + pack(other)), expert.guidance_state(seen, noise))
    motion = expert.rollout(seen, noise)
    assert not motion[..., 2].any() and motion[..., :2].abs().min() > 0


def test_2d_runs_guide_and_are_not_taken_for_3d(folder):
    first = run(folder, 1, "stage1-2d", prior="2d")
    made = run(folder, 2, "stage2-2d", motion=first)
    images, state = observation()
    _, motion = load_policy(made, device="cpu").predict(images, "open", state, return_motion=True)
    assert not motion[..., 2].any()
    with pytest.raises(BadRun, match="was trained with --motion 2d, 3d was asked for"):
        run(folder, 2, "x", motion=first, prior="3d")


@pytest.mark.parametrize("steps", range(11))
def test_guidance_steps_are_the_first_of_the_rollout_and_one_more_look(steps):
    torch.manual_seed(0)
    expert = MotionExpert(replace(SMALL, guidance_steps=steps, layers=1), 10).eval().requires_grad_(False)
    torch.nn.init.normal_(expert.decoder.cogvideox.proj_out.weight, std=0.2)
    features, noise = Features(torch.randn(1, 5, 10), None), torch.randn(expert.noise_shape(1))
    seen = []
    expert.decoder.cogvideox.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0], int(inputs[1][0]))))
    expert.guidance_state(features, noise)
    assert [time for _, time in seen] == [100 * step for step in range(steps + 1)]
    guided = seen.copy()
    seen.clear()
    expert.rollout(features, noise)
    assert all(torch.equal(mine, whole) for (mine, _), (whole, _) in zip(guided, seen, strict=False))


def test_a_joint_objective_teaches_the_motion_expert_at_its_own_rate(folder):
    made = run(folder, 2, "joint", objective="joint", motion_rate=1e-4)
    before, after = read_tensors(made / "motion.safetensors"), read_tensors(made / "model.safetensors")
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before if name in after}
    assert set(moved) == set(before)
    # AdamW moves a weight by about the rate at each step; the second and last step has the minimum rate.
    assert 0.5e-4 < max(moved.values()) < 2.1e-4
    images, state = observation()
    policy = load_policy(made, device="cpu")
    loaded = policy.model.state_dict()
    assert all(torch.equal(loaded[name], after[name]) for name in after)
    assert policy.predict(images, "open", state).shape == (10, 7)


def test_going_on_keeps_the_variant(folder):
    made = run(folder, 2, "kept", fusion="add", guidance_steps=5)
    config = read_config(made)
    run(folder, 2, "kept", resume=True, fusion="add", guidance_steps=5)
    assert read_config(made) == config
    for asked, says in (
        ({"fusion": "concat"}, "begun with fusion add and not concat"),
        ({"guidance_steps": 1}, "begun with guidance-steps 5 and not 1"),
        ({"prior": "none"}, "begun with motion 3d and not none"),
        ({"chunk": 9}, "begun with chunk 10 and not 9"),
        ({"action_head": "binned"}, "begun with action-head flow-matching and not binned"),
        ({"backbone": "openvla-7b"}, "begun with backbone qwen3-vl and not openvla-7b"),
        (
            {"backbone": "qwen3-vl:image_size=32,seed=0"},
            "begun with backbone qwen3-vl:image_size=64 and not qwen3-vl:image_size=32,seed=0",
        ),
    ):
        with pytest.raises(BadRun, match=says):
            run(folder, 2, "kept", resume=True, **asked)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stage": 1, "motion": "none"}, "begin with lamp-train --stage 2 --motion none"),
        ({"stage": 1, "fusion": "add"}, "--fusion belongs to stage 2"),
        ({"stage": 1, "guidance_steps": 5}, "--guidance-steps belongs to stage 2"),
        ({"stage": 1, "objective": "joint"}, "--objective belongs to stage 2"),
        ({"stage": 2, "motion": "none", "fusion": "add"}, "--fusion needs a motion"),
        ({"stage": 2, "motion": "none", "guidance_steps": 1}, "--guidance-steps needs a motion"),
        ({"stage": 2, "motion": "none", "objective": "joint"}, "--objective needs a motion"),
        ({"stage": 2, "motion_weight": 0.5}, "--motion-weight is of the joint objective: add --objective joint"),
        ({"stage": 2, "fusion": "glue"}, "no fusion is called 'glue'; there are: add, concat, gated, gated-tokens"),
        ({"stage": 2, "fusion": "add:heads=2"}, "'add' has no option 'heads'"),
        ({"stage": 2, "fusion": "gated-tokens:layers=0"}, "layers must lie between 1 and 1000, found 0"),
        ({"stage": 2, "guidance_steps": 11}, "guidance_steps must lie between 0 and denoising_steps 10"),
        ({"stage": 2, "objective": "joint", "motion_weight": -1.0}, "motion-weight must be positive"),
        ({"stage": 2, "objective": "joint", "motion_rate": 1.0}, "motion-rate must not be above learning-rate"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(folder, given, says, monkeypatch):
    monkeypatch.setattr(running, "_build", lambda *_: pytest.fail("a model was built"))
    if given["stage"] == 2:
        given = {"motion": folder / "stage1", **given}
    with pytest.raises(UsageError, match=says):
        train_command(Train(data=folder / "shards", output=folder / "refused", device="cpu", **given))
    assert not (folder / "refused").exists()


def test_options_of_the_preset_stay_where_the_fusion_has_them():
    gated = PluginChoice("gated", {"heads": 6})
    assert plugin_options(FUSION, "gated-tokens:layers=2", gated) == {"heads": 6, "layers": 2}
    assert plugin_options(FUSION, "add", gated) == {}
