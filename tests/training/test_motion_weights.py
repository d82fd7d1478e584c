"""Stage 2 on motion weights in the authors' layout, in place of a run of stage 1."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fixtures.published import EXPORTABLE
from fixtures.shard import write_shards
from training.test_model_training import OPTIONS, observation, smaller, trained

from jobs.cli.exit_codes import UsageError
from jobs.cli.train_options import Train
from jobs.commands.export import Export, export_command
from jobs.commands.train import train_command
from lamp_model.errors import BadCheckpoint, BadRun
from lamp_model.policy import load_policy
from lamp_model.published.files import find, read_state
from lamp_model.storage.checkpoints import read_tensors
from lamp_model.storage.run_folder import read_config
from lamp_model.training.init_motion import find_published
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from schemas.manifest import read_manifest
from schemas.plugins import MissingDependency


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards, and the Motion Expert of a run as the authors would have published it: no word of this project."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("weights")
    data = write_shards(folder / "shards", episodes=3, frames=2)
    trained(1, data, folder / "stage1", steps=1, **EXPORTABLE)
    trained(2, data, folder / "stage2", folder / "stage1", steps=1)
    export_command(Export(folder / "stage2", folder / "export"))
    made = folder / "motion"
    made.mkdir()
    state = torch.load(folder / "export/pytorch_model.pt", weights_only=True)
    # Their code has no other width of the time's sinusoid.
    name = "motion_head.decoder.cogvideox.time_embedding.linear_1.weight"
    state[name] = torch.randn(state[name].shape[0], 512, generator=torch.Generator().manual_seed(0)) * 0.02
    torch.save({n: t.clone() for n, t in state.items() if n.startswith("motion_head.")}, made / "motion.pt")
    shutil.copytree(folder / "stage1/backbone", made / "backbone")
    values = yaml.safe_load((folder / "export/config.yaml").read_text())
    del values["lamp"]
    values["framework"]["qwenvl"]["base_vlm"] = "./backbone"
    (made / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


def request(folder, weights, output="run", **more):
    given = {} if more.get("resume") else {**OPTIONS, "steps": 1, "val_fraction": 0.0}
    return Request(
        2,
        folder / "shards",
        folder / output,
        motion_weights=str(weights),
        preset=None if more.get("resume") else "tiny",
        options=given,
        device="cpu",
        **more,
    )


def test_stage_2_keeps_and_guides_by_published_weights(folder):
    weights = folder / "motion"
    train(smaller(prepare(request(folder, weights))))
    kept, published = (
        read_tensors(folder / "run/motion.safetensors"),
        read_state(find(weights, needs_statistics=False), ("motion_head",)),
    )
    assert set(kept) == set(published) and all(torch.equal(kept[name], published[name]) for name in kept)
    config = read_config(folder / "run")
    assert config.motion_run == str(weights) and config.model.padding == "repeat"
    assert config.model.backbone_options["tidy"] is False, "the conventions that the weights were trained in"
    policy = load_policy(folder / "run", device="cpu")
    assert policy.image_orientation == "upright", "these shards are not LIBERO's"
    images, state = observation()
    actions, motion = policy.predict(images, "open", state, return_motion=True)
    assert np.isfinite(actions).all() and motion.shape == (400, 32, 3)
    assert prepare(request(folder, weights, resume=True)).finished
    with pytest.raises(BadRun, match="was begun with the Motion Expert of"):
        prepare(request(folder, folder / "export", resume=True))


def test_a_whole_policy_and_a_file_alone_serve_as_well(folder):
    """The exported run's config says where its backbone is; it has sizes there and no weights, which only training
    needs.
    """
    assert prepare(request(folder, folder / "motion/motion.pt", output="from-file")).config.model.padding == "repeat"
    assert find_published(str(folder / "export")).model.motion == read_config(folder / "stage1").model.motion
    with pytest.raises(MissingDependency, match=r"but no weights: .* give the run of stage 1 behind that as --motion"):
        prepare(request(folder, folder / "export", output="unborn"))
    assert not (folder / "unborn").exists()


def test_how_the_authors_weights_see_these_data_can_be_said_and_a_run_of_stage_1_knows(folder):
    rotated = request(folder, folder / "motion", output="rotated")
    rotated = replace(rotated, options={**rotated.options, "image_orientation": "rotated-180"})
    assert prepare(rotated).config.model.image_orientation == "rotated-180"
    libero = shutil.copytree(folder / "shards", folder / "libero")
    manifest = read_manifest(libero)
    replace(manifest, dataset={**manifest.dataset, "name": "libero"}).write(libero)
    on_libero = prepare(replace(request(folder, folder / "motion", output="libero-run"), data=libero))
    assert on_libero.config.model.image_orientation == "mirrored"
    taken_over = replace(request(folder, "", output="own"), motion_weights=None, motion=folder / "stage1")
    assert prepare(taken_over).config.model.image_orientation == "upright"
    asked = replace(taken_over, options={**taken_over.options, "image_orientation": "rotated-180"})
    with pytest.raises(BadRun, match="was trained with the image_orientation upright, rotated-180 was asked for"):
        prepare(asked)


def test_which_hidden_states_the_authors_weights_take_can_be_said(folder):
    asked = request(folder, folder / "motion", output="before")
    asked = replace(asked, options={**asked.options, "backbone": "qwen3-vl:features=before-norm"})
    assert prepare(asked).config.model.backbone_options["features"] == "before-norm"
    other = replace(asked, options={**asked.options, "backbone": "qwen3-vl:image_size=96"})
    with pytest.raises(BadRun, match="was trained with the backbone qwen3-vl:image_size=64"):
        prepare(other)


def narrow(state):
    name = "motion_head.vlm_proj.weight"
    state[name] = state[name][:, :100].clone()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (narrow, r"of another size than its config: vlm_proj\.weight is \[32, 100\], \[32, 192\] was expected"),
        (lambda state: state.pop("motion_head.vlm_proj.weight"), r"1 names differ: it lacks vlm_proj\.weight"),
        (lambda state: state.update({"head.x": torch.ones(1)}), "holds head: its parts must be exactly motion_head"),
    ],
)
def test_weights_of_another_model_are_refused_before_any_work(folder, tmp_path, edit, says):
    shutil.copytree(folder / "motion", tmp_path / "motion")
    state = torch.load(tmp_path / "motion/motion.pt", weights_only=True)
    edit(state)
    torch.save(state, tmp_path / "motion/motion.pt")
    with pytest.raises(BadCheckpoint, match=says):
        prepare(request(folder, tmp_path / "motion", output="refused"))
    assert not (folder / "refused").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stage": 1, "motion_weights": "x"}, "--motion-weights belongs to stage 2"),
        ({"stage": 2, "motion_weights": "x", "lora_rank": 4}, "--lora-rank changes the features that published"),
        (
            {"stage": 2, "motion_weights": "x", "motion": Path("runs/stage1")},
            "both say where the Motion Expert comes from",
        ),
        ({"stage": 2, "motion_weights": "x", "motion": Path("none")}, "--motion-weights needs a motion"),
        ({"stage": 2, "motion_weights": "shards"}, "holds no published weights: --motion-weights takes a folder"),
    ],
)
def test_what_cannot_be_is_a_sentence(folder, monkeypatch, given, says):
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=says):
        train_command(Train(data=folder / "shards", output=folder / "refused", device="cpu", **given))
    assert not (folder / "refused").exists()
