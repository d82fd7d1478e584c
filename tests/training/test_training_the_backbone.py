"""A backbone that learns, in both stages: what learns, what a run keeps, and merging it into plain weights."""

import json
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from fixtures.published import EXPORTABLE
from fixtures.shard import write_shards
from training.test_model_training import OPTIONS, observation, smaller

from jobs.cli.exit_codes import UsageError
from jobs.commands.merge import Merge, merge_command
from lamp_model.errors import BadRun
from lamp_model.imagination import load_motion_expert
from lamp_model.model import MotionModel
from lamp_model.networks.lora import ADAPTERS, BACKBONE_MODULE, module_of
from lamp_model.policy import load_policy
from lamp_model.published.export import export_policy
from lamp_model.storage import run_folder
from lamp_model.storage.checkpoints import best_of, read_tensors, steps_in
from lamp_model.storage.run_folder import read_config
from lamp_model.training import run as running
from lamp_model.training.metrics import read_metrics
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train

TEXT = "open the middle drawer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards, and both stages with adapters and with a fully trained backbone; and a stage 2 that trains neither."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("backbone")
    write_shards(folder / "shards", episodes=3, frames=2)
    lora = {"train_backbone": "lora", "lora_rank": 4, "backbone_rate": 5e-4, "lora_modules": ("q_proj", "v_proj")}
    full = {"train_backbone": "full", "backbone_rate": 5e-4, "ema": 0.5}
    run(folder, "lora1", 1, **lora, **EXPORTABLE)
    run(folder, "full1", 1, **full)
    run(folder, "on_lora", 2, "lora1")
    run(folder, "lora2", 2, "lora1", **lora)
    run(folder, "full2", 2, "full1", **full)
    return folder


def run(folder, name, stage, motion=None, resume=False, **options):
    given = options if resume else {**OPTIONS, "steps": 4, "checkpoint_every": 2, **options}
    first = folder / motion if motion else None
    where = {"device": "cpu", "cache_features": "off"}
    prepared = prepare(Request(stage, folder / "shards", folder / name, first, options=given, resume=resume, **where))
    with patch.object(running, "draw_curves"):  # a third of a short run's time, and tested elsewhere
        train(prepared if resume else smaller(prepared))
    return folder / name


def imagined(folder):
    return load_motion_expert(folder, device="cpu").imagine(observation()[0], TEXT)


def acted(folder, **options):
    images, state = observation()
    return load_policy(folder, device="cpu", **options).predict(images, TEXT, state)


def modules_in(folder, name="model.safetensors"):
    return {module_of(entry) for entry in read_tensors(folder / name)}


def test_a_run_keeps_what_learnt_and_nothing_else(folder):
    assert modules_in(folder / "lora1") == {"motion_head", ADAPTERS}
    assert modules_in(folder / "full1") == {"motion_head", BACKBONE_MODULE}
    assert modules_in(folder / "lora2") == {"motion_guidance", "action_model", ADAPTERS}
    kept = read_tensors(folder / "full1/model.safetensors")
    assert not any("lm_head" in name for name in kept) and any("visual" in name for name in kept)
    names = {name.split(".")[-4] for name in read_tensors(folder / "lora1/model.safetensors") if ".lora_" in name}
    assert names == {"q_proj", "v_proj"}
    # In the first step the final projection is 0 and passes no gradient on.
    line = [line for line in read_metrics(folder / "full1/metrics.jsonl") if "loss" in line][-1]
    assert line[f"gradient_norm_{BACKBONE_MODULE}"] > 0 and line["gradient_norm_motion_head"] > 0


def test_every_weight_on_which_features_depend_learns(folder):
    """The weights of all layers moved from those with which the run began."""
    kept = read_tensors(folder / "full1/model.safetensors")
    base, prefix = read_tensors(folder / "full1/backbone/model.safetensors"), f"{BACKBONE_MODULE}.model."
    learnt = {name.removeprefix(prefix): tensor for name, tensor in kept.items() if name.startswith(prefix)}
    assert not [name for name, tensor in learnt.items() if torch.equal(tensor, base[name])]


@pytest.mark.parametrize("stage1", ["lora1", "full1"])
def test_stage_2_stands_on_the_backbone_that_stage_1_trained(folder, stage1):
    """The features of stage 2's frozen backbone are those of stage 1's at its end."""
    second = {"lora1": "on_lora", "full1": "full2"}[stage1]
    first, _ = run_folder.load_motion_model(folder / stage1)
    config = read_config(folder / second)
    as_found = replace(run_folder.local_backbone(folder / second, config.model), lora_rank=0)
    plain = MotionModel(as_found).eval()
    images = [torch.from_numpy(image)[None] for image in observation()[0]]
    with torch.no_grad():
        torch.testing.assert_close(plain.encode(images, [TEXT]).tokens, first.encode(images, [TEXT]).tokens)


@pytest.mark.parametrize("name", ["lora1", "full1"])
def test_a_merged_run_of_stage_1_imagines_the_same(folder, name, tmp_path, capsys):
    assert merge_command(Merge(folder / name, tmp_path / "merged")) == 0
    assert "backbone/ holds the whole backbone" in capsys.readouterr().out
    np.testing.assert_allclose(imagined(tmp_path / "merged"), imagined(folder / name), atol=1e-5)
    merged = read_config(tmp_path / "merged")
    assert merged.model.lora_rank == 0 and merged.training.train_backbone == "none"
    assert merged.merged["train_backbone"] == read_config(folder / name).training.train_backbone
    with pytest.raises(UsageError, match="trained nothing of its backbone"):
        merge_command(Merge(tmp_path / "merged", tmp_path / "again"))


@pytest.mark.parametrize("name", ["lora2", "full2"])
def test_a_merged_policy_acts_the_same(folder, name, tmp_path):
    merge_command(Merge(folder / name, tmp_path / "merged"))
    np.testing.assert_allclose(acted(tmp_path / "merged"), acted(folder / name), atol=1e-4)
    with pytest.raises(UsageError, match="exists already"):
        merge_command(Merge(folder / name, tmp_path / "merged"))


def test_a_merged_policy_can_be_exported_and_then_acts_bitwise_the_same(folder, tmp_path):
    merge_command(Merge(folder / "lora2", tmp_path / "merged"))
    export_policy(tmp_path / "merged", tmp_path / "exported")
    assert np.array_equal(acted(tmp_path / "exported"), acted(tmp_path / "merged"))


def test_a_run_with_nothing_to_merge_is_refused_and_leaves_nothing(folder, tmp_path):
    with pytest.raises(UsageError, match="on_lora trained nothing of its backbone"):
        merge_command(Merge(folder / "on_lora", tmp_path / "merged"))
    assert not list(tmp_path.iterdir())


def test_the_policy_takes_averaged_weights_unless_told_otherwise(folder):
    averaged, last = acted(folder / "full2"), acted(folder / "full2", weights="last")
    assert np.array_equal(acted(folder / "full2", weights="averaged"), averaged)
    assert not np.array_equal(averaged, last)
    assert acted(folder / "full2", weights="best").shape == averaged.shape
    with pytest.raises(BadRun, match="has no averaged weights: it was trained without --ema"):
        acted(folder / "lora2", weights="averaged")


def test_more_steps_go_on_where_the_run_ended_and_its_first_weights_are_kept(folder, tmp_path):
    """With a constant rate the longer run is the one that was asked for at once."""
    rate = {"schedule": "constant", "ema": 0.5}
    run(folder, "short", 1, **rate)
    before = (folder / "short/model.safetensors").read_bytes()
    run(folder, "short", 1, resume=True, steps=6, keep=3)
    run(folder, "long", 1, **{**rate, "steps": 6})
    for name in ("model.safetensors", "averaged.safetensors"):
        longer, expected = (read_tensors(folder / made / name) for made in ("short", "long"))
        assert not [key for key in expected if not torch.equal(longer[key], expected[key])]
    assert (folder / "short/model.step-000004.safetensors").read_bytes() == before
    assert (folder / "short/averaged.step-000004.safetensors").is_file()
    config = read_config(folder / "short").training
    assert config.steps == 6 and config.earlier_rates["4"]["steps"] == 4
    with pytest.raises(ValueError, match="may be raised only: found --steps 5"):
        run(folder, "short", 1, resume=True, steps=5)
    best = best_of(folder / "short/checkpoints")
    lines = read_metrics(folder / "short/metrics.jsonl")
    losses = {line["step"]: line["val_loss"] for line in lines if "val_loss" in line}
    assert best and best.step in steps_in(folder / "short/checkpoints") and best.val_loss == losses[best.step]


def test_configs_from_before_these_options_still_load(folder, tmp_path):
    values = json.loads((folder / "on_lora/config.json").read_text())
    for name in ("schedule", "warmup", "decay", "ema", "keep", "augment_crop", "augment_colour"):
        del values["training"][name]
    del values["training"]["train_backbone"], values["training"]["backbone_rate"]
    del values["model"]["lora_modules"], values["merged"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_config(tmp_path) == read_config(folder / "on_lora")
