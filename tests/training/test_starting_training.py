"""Starting and going on: what is refused is refused before anything is loaded and leaves nothing,
and its remedy works.
"""

import json
import math
import shutil
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.shard import write_shards

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.train_options import Train
from jobs.commands.train import train_command
from lamp_model.config import CHANGING, POSITIVE, TrainingConfig
from lamp_model.model import MotionModel, PolicyModel, outline
from lamp_model.networks.loss_term import LossTerm
from lamp_model.presets import tiny
from lamp_model.storage.checkpoints import steps_in
from lamp_model.storage.run_folder import read_config
from lamp_model.training import run as running
from lamp_model.training.metrics import read_metrics

SHORT = {"batch_size": 1, "steps": 1, "val_fraction": 0.0, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards with 16 actions a sample and a run of stage 1."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("starting")
    write_shards(folder / "shards", episodes=2, frames=1)
    asked(folder, "stage1", stage=1)
    return folder


def asked(folder, output, **options):
    given = {"stage": 2, "data": folder / "shards", "output": folder / output, **SHORT, **options}
    if given["stage"] == 2:
        given.setdefault("motion", folder / "stage1")
    return train_command(Train(**given))


def test_a_refused_start_leaves_nothing_and_its_remedy_works(folder, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(running, "_build", lambda *_: pytest.fail("a model was built"))
        with pytest.raises(
            UsageError, match=r"exceed the 20 positions of the action head: give --positions (\d+)"
        ) as no:
            asked(folder, "policy", positions=20)
        assert not (folder / "policy").exists()
    assert asked(folder, "policy", positions=int(str(no.value).split("--positions ")[1].split()[0])) == 0
    assert (folder / "policy/model.safetensors").is_file()


def test_a_start_that_fails_while_it_builds_leaves_nothing(folder, monkeypatch):
    def missing(*_):
        raise OSError(5, "Input/output error", "weights")

    with monkeypatch.context() as patched:
        patched.setattr(PolicyModel, "place", missing)
        with pytest.raises(Failed, match="when that is mended, give the same command again"):
            asked(folder, "broken")
    assert not (folder / "broken").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"chunk": 17}, "a chunk of 17 actions .* samples in .* have 16: give --chunk 16 or less"),
        ({"chunk": 600, "positions": 700}, "give --chunk 16 or less"),
        ({"chunk": 0}, "chunk must be at least 1 action, found 0"),
        ({"positions": 0}, "positions must lie between 1 and 65536, found 0"),
        ({"positions": 10}, "positions must be more than the 10 actions of a chunk, found 10"),
        ({"fusion": "gated:heads=0"}, "heads must lie between 1 and 65536, found 0"),
        ({"fusion": "gated:heads=40"}, "divides the feature width 192, found 40: give --fusion with heads=32"),
        ({"fusion": "gated:dropout=2"}, "dropout must be at least 0 and below 1"),
        ({"fusion": "gated:gate=nan"}, "gate must be a finite number, found nan"),
        ({"fusion": "gated:motion_width=5"}, "'gated' takes 'motion_width' from the rest of the model"),
        ({"fusion": "gated-tokens:feature-width=5"}, "takes 'feature_width' from the rest of the model"),
        ({"action_head": "binned:bins=10000000000"}, "bins must lie between 1 and 65536"),
        ({"lora_rank": 10_000}, "lora-rank must not be above the \\d+ of the narrowest layer, found 10000"),
        ({"decay": 0.1}, "--decay is how wsd comes down: add --schedule wsd"),
        ({"threads": 0}, "threads must be at least 1, found 0"),
        ({"learning_rate": float("inf")}, "learning-rate must be positive and finite, found inf"),
        ({"objective": "joint", "motion_weight": float("nan")}, "motion-weight must be positive and finite, found nan"),
        ({"val_fraction": float("nan")}, "val-fraction must be at least 0 and below 1, found nan"),
        ({"retarget": True}, "--retarget is of the joint objective: add --objective joint"),
        ({"stage": 1, "motion": Path("runs/old")}, "--motion runs/old names a run for stage 2 to build on"),
        ({"stage": 1, "chunk": 5}, "--chunk belongs to stage 2"),
        ({"stage": 1, "actions": "raw"}, "--actions belongs to stage 2"),
        ({"stage": 1, "normalisation": "quantile"}, "--normalisation belongs to stage 2"),
        ({"stage": 1, "backbone": "qwen3-vl:prompt=hello"}, "{instruction}"),
        ({"stage": 1, "backbone": "qwen3-vl:image_size=0"}, "image_size must .* found 0"),
        ({"stage": 1, "backbone": "qwen3-vl:max_pixels=0"}, "min_pixels must be at least 0 and max_pixels no less"),
        ({"stage": 1, "backbone": "qwen3-vl:seed=-1"}, "seed must not be negative, found -1"),
        ({"stage": 1, "backbone": "qwen3-vl:attention=foo"}, "attention .* found 'foo'"),
    ],
)
def test_options_that_make_no_sense_are_a_sentence_before_anything_is_built(folder, options, says, monkeypatch):
    monkeypatch.setattr(running, "_build", lambda *_: pytest.fail("a model was built"))
    with pytest.raises(UsageError, match=says) as refused:
        asked(folder, "refused", **options)
    assert "\n" not in str(refused.value) and not (folder / "refused").exists()


def test_a_backbone_without_weights_is_refused_before_anything_is_built(folder, tmp_path, monkeypatch):
    MotionModel(tiny().model).qwen_vl_interface.save(str(tmp_path / "backbone"))
    for weights in (tmp_path / "backbone").glob("*.safetensors"):
        weights.unlink()
    monkeypatch.setattr(running, "_build", lambda *_: pytest.fail("a model was built"))
    with pytest.raises(Failed, match="config and tokenizer but no weights: put its"):
        asked(folder, "refused", stage=1, backbone=f"qwen3-vl:weights={tmp_path / 'backbone'}")
    assert not (folder / "refused").exists()


def test_every_number_of_the_training_must_be_finite():
    numbers = {"stage": 1, "steps": 1, "batch_size": 1, "learning_rate": 1.0, "minimum_rate": 0.0}
    kinds = typing.get_type_hints(TrainingConfig)
    for name in POSITIVE:
        for value in (-1, 0) if kinds[name] is int else (-1.0, 0.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=rf"{name.replace('_', '-')} must be positive and finite"):
                TrainingConfig(**{**numbers, name: value})


def test_the_rate_ends_no_higher_than_it_begins():
    config = tiny().stage1.asked({"learning_rate": 1e-6})
    assert (config.learning_rate, config.minimum_rate) == (1e-6, 1e-6)
    assert tiny().stage1.asked({"learning_rate": 1.0}).minimum_rate == tiny().stage1.minimum_rate


def test_an_outline_has_the_names_and_shapes_of_the_model_and_no_weights():
    config = tiny().model
    for kind in (MotionModel, PolicyModel):
        drawn, built = outline(kind, config), kind(config)
        shapes = [{n: tuple(t.shape) for n, t in model.state_dict().items()} for model in (drawn, built)]
        assert shapes[0] == shapes[1] and all(p.is_meta for p in drawn.parameters())
    assert drawn.qwen_vl_interface.length("open", 2) == built.qwen_vl_interface.length("open", 2)


def test_going_on_with_another_rate_is_what_the_run_then_does_and_says(folder):
    steps = {"steps": 4, "checkpoint_every": 2}
    asked(folder, "mended", stage=1, **steps)
    run = folder / "mended"
    (run / "model.safetensors").unlink()
    before = read_config(run).training
    shutil.rmtree(run / "checkpoints/step-000004")  # as if it had been stopped before
    assert steps_in(run / "checkpoints") == [2]
    train_command(Train(stage=1, output=run, resume=True, learning_rate=1e-5, device="cpu", threads=1))
    after = read_config(run).training
    assert (after.learning_rate, after.minimum_rate) == (1e-5, 1e-5)
    assert after.earlier_rates == {"2": {name: getattr(before, name) for name in CHANGING if name != "backbone_rate"}}
    used = read_metrics(run / "metrics.jsonl")[-1]
    assert used["step"] == 4 and used["learning_rate"] == pytest.approx(1e-5)
    again = after.resumed({"learning_rate": 1e-6}, 2)
    assert again.earlier_rates == after.earlier_rates and again.learning_rate == 1e-6
    assert after.resumed({"learning_rate": 1e-5}, 4) is after


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_run_that_runs_away_keeps_no_checkpoint_of_it_and_says_how_to_go_on(folder, where, monkeypatch):
    def damaged(self, batch, draws):
        tensor = next(p for p in self.model.motion_head.parameters() if p.requires_grad).sum()
        broken = LossTerm(tensor * np.nan if where == "loss" else torch.sqrt(tensor * 0), torch.tensor(1))
        return {"motion": broken, "path": broken}

    from lamp_model.training.stages import MotionStage

    run = folder / f"away-{where}"
    with monkeypatch.context() as patched:
        patched.setattr(MotionStage, "losses", damaged)
        with pytest.raises(Failed, match=r"--resume --learning-rate 0\.0002") as failed:
            asked(folder, run.name, stage=1, steps=2, checkpoint_every=1)
    assert ("the motion loss is nan" in str(failed.value)) == (where == "loss") and not steps_in(run / "checkpoints")
    assert asked(folder, run.name, stage=1, steps=2, checkpoint_every=1, resume=True, learning_rate=0.0004) == 0
    assert json.loads((run / "config.json").read_text())["training"]["learning_rate"] == 0.0004
