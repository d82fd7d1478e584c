"""Recipe files of training: every shipped one comes to a step of training, and what a file cannot say is a sentence."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.shard import write_shards
from fixtures.vlm import write_model
from training.test_model_training import observation, smaller

from jobs.cli.exit_codes import UsageError
from jobs.cli.train_options import Train, request_of, with_recipe
from jobs.commands.train import train_command
from lamp_model.networks.lora import ADAPTERS, module_of
from lamp_model.policy import load_policy
from lamp_model.storage.checkpoints import read_tensors
from lamp_model.training import run as running
from lamp_model.training.run import prepare, train
from lamp_model.training.trainer import Trainer
from schemas.plugins import plugin_names
from schemas.structured import BadFile, read_structured

FOLDER = Path(__file__).parents[2] / "jobs/recipes/train"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SHORT = {"steps": 1, "batch_size": 2, "val_fraction": 0.0, "device": "cpu", "preset": "tiny"}
OTHER_WEIGHTS = {"openvla_stage1": {"backbone": "openvla-7b:weights=random:tiny"}}
"""What a test cannot download."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards where the recipes look for them, and the runs of stage 1 on which others build."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("recipes")
    data = write_shards(folder / "shards/libero", episodes=2, frames=2)
    for labels in ("zoedepth", "midas", "icp"):
        (folder / f"shards/libero-{labels}").symlink_to(data)
    before = os.getcwd()
    os.chdir(folder)
    train(small(Train(stage=1, output=Path("runs/stage1"), **SHORT)))
    for name in ("motion_2d_stage1", "openvla_stage1"):
        train(small(asked(name)))
    os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def asked(name, **flags):
    given = {**SHORT, **OTHER_WEIGHTS.get(name, {}), **flags}
    return with_recipe(Train(recipe=FOLDER / f"{name}.yaml", **given), FOLDER / f"{name}.yaml")


def small(args):
    """As asked for, in sizes for a test; sizes of pictures are OpenVLA's own affair."""
    prepared = prepare(request_of(args, args.output))
    if prepared.config.model.backbone == "qwen3-vl" or prepared.config.motion_run:
        return smaller(prepared)
    motion = replace(prepared.config.model.motion, layers=1, heads=2, head_dim=16, patch_size=10)
    return replace(prepared, config=replace(prepared.config, model=replace(prepared.config.model, motion=motion)))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_comes_to_a_step_of_training(name):
    prepared = small(asked(name, output=Path("walked") / name))
    config = prepared.config
    prepared.folder.mkdir(parents=True)
    stage = running._build(prepared, running._statistics(prepared))
    loader, _ = running._loaders(prepared)
    loss, norm = Trainer(stage, config.training, prepared.folder, loader, None).step(loader.batch(0))
    assert math.isfinite(loss) and norm > 0
    assert config.training.stage == read_structured(FOLDER / f"{name}.yaml")["stage"]


def test_there_is_a_recipe_for_every_published_ablation_and_every_variant():
    """The paper's, the second reading's, and every fusion there is."""
    models = {name: small(asked(name, output=Path("looked") / name)).config for name in RECIPES}
    assert {c.model.fusion for c in models.values()} == set(plugin_names("lamp_model.fusions"))
    assert {c.model.motion.guidance_steps for c in models.values()} == {0, 1, 5, 10}
    assert {c.model.motion.depth for c in models.values()} == {True, False}
    assert {c.model.guided for c in models.values()} == {True, False}
    assert {c.training.objective for c in models.values()} == {"action", "joint"}
    second = models["openvla_stage2"].model
    assert (second.backbone, second.lora_rank, second.action_head) == ("openvla-7b", 64, "binned")
    assert second.action_head_options == {"bins": 256}
    assert {Path(c.data.path).name for c in models.values()} >= {"libero-zoedepth", "libero-midas", "libero-icp"}


def test_flags_go_before_the_file_and_the_run_is_named_after_it(tmp_path):
    assert asked("fusion_add").output == Path("runs/fusion_add") and asked("fusion_add").fusion == "add"
    args = asked("joint", motion_weight=0.5, output=tmp_path)
    assert (args.motion_weight, args.motion_rate, args.output) == (0.5, 1e-5, tmp_path)
    path = tmp_path / "own.yaml"
    path.write_text("stage: 2\nguidance-steps: 5\noutput: elsewhere\nrelative_depth: true\n")
    args = with_recipe(Train(), path)
    assert (args.stage, args.guidance_steps, args.output, args.relative_depth) == (2, 5, Path("elsewhere"), True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stage: 2\nfuison: add\n", "has a name 'fuison' that is not known; known are stage, data"),
        ("stage: 2\ndevice: cuda\n", "has a name 'device' that is not known"),
        ("stage: 3\n", "stage must be one of 1, 2, found 3"),
        ("stage: 2\nsteps: many\n", "steps must be a whole number, found 'many'"),
        ("fusion: add\n", "--stage is missing: 1 trains the motion"),
        ("stage: 2\nfusion: glue\n", "no fusion is called 'glue'"),
        ("stage: 1\nfusion: add\n", "--fusion belongs to stage 2"),
        ("stage: 2\nmotion: none\nfusion: add\n", "--fusion needs a motion"),
        ("stage: 1\naction_head: binned\n", "--action-head belongs to stage 2"),
        ("stage: 1\nlora_rank: 64\ntrain_backbone: none\n", "--train-backbone none does not: leave one of them out"),
        ("stage: 1\nlora_rank: 0\ntrain_backbone: lora\n", "needs adapters, and --lora-rank is 0"),
        ("stage: 1\nlora_modules: [q_proj]\n", "--lora-modules is for adapters: add --train-backbone lora"),
        ("stage: 1\nbackbone_rate: 0.00001\n", "--backbone-rate is for a backbone that learns"),
        (
            "stage: 1\ntrain_backbone: lora\nlora_modules: [query]\n",
            "no linear layer of that name; give",
        ),
        ("stage: 2\nlora_rank: -1\n", "lora-rank must not be negative, found -1"),
        ("stage: 2\naction_head: binned:bins=1\n", "at least 2 bins, found 1"),
        ("stage: 2\naction_head: binned:sizes=1\n", "takes 'sizes' from the rest of the model"),
        ("stage: 2\nfusion: gated:heads=5\n", "divides the feature width 192, found 5"),
        ("stage: 2\nbackbone: openvla-7b\n", r"a Motion Expert knows one backbone only"),
        ("stage: 1\nbackbone: transformers-vlm\n", "needs a model: weights=FOLDER"),
        (
            "stage: 1\nbackbone: clip\n",
            "no backbone is called 'clip'; there are: openvla-7b, qwen3-vl, transformers-vlm",
        ),
        ("stage: 1\nbackbone: qwen3-vl:weights=random:huge\n", "random weights come in the sizes tiny, 2b, 4b"),
        ("- stage\n", "must hold names with values"),
        ("stage: !!python/object/apply:os.system [ls]\n", "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason_before_anything_is_loaded(text, says, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "_build", lambda *_: pytest.fail("a model was built"))
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UsageError, match=says) as refused:
        train_command(Train(recipe=tmp_path / "r.yaml", output=tmp_path / "refused", device="cpu"))
    assert not (tmp_path / "refused").exists() and "\n" not in str(refused.value)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(BadFile, match="cannot be read: No such file"):
        with_recipe(Train(), tmp_path / "none.yaml")


def test_features_that_do_not_fit_the_positions_are_refused_before_the_first_step():
    args = asked("fusion_add", output=Path("narrow"), positions=40)
    with pytest.raises(ValueError, match=r"exceed the 40 positions of the action head: give --positions \d+ or more"):
        train(small(args))


def test_any_backbone_trains_with_adapters_and_the_policy_finds_it_again(tmp_path):
    weights = write_model("idefics3", tmp_path / "weights")
    args = Train(
        stage=2,
        motion=Path("none"),
        backbone=f"transformers-vlm:weights={weights},image_size=40",
        lora_rank=2,
        output=tmp_path / "run",
        **SHORT,
    )
    train(small(args))
    policy = load_policy(tmp_path / "run", device="cpu")
    kept = read_tensors(tmp_path / "run/model.safetensors")
    assert {module_of(name) for name in kept} == {"action_model", ADAPTERS}
    images, state = observation()
    assert policy.predict(images, "open the drawer", state).shape == (10, 7)
