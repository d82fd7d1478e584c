"""Going on and stopping: on the same shards only, one process at a time, and with a line that says how."""

import json
import os
import re
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.published import EXPORTABLE
from fixtures.shard import write_shards
from training.test_model_training import smaller

from jobs.cli.exit_codes import Failed, UsageError, run_command
from jobs.cli.train_options import Train
from jobs.commands.train import train_command
from lamp_model.data.embodiments import run_statistics
from lamp_model.errors import BadCheckpoint, BadRun
from lamp_model.imagination import load_motion_expert
from lamp_model.networks.loss_term import LossTerm
from lamp_model.policy import load_policy
from lamp_model.storage.checkpoints import read_tensors, steps_in
from lamp_model.storage.run_folder import LOCK, read_config, read_statistics
from lamp_model.training.request import Request
from lamp_model.training.run import prepare, train
from lamp_model.training.stopping import Stopped, StopRequest
from lamp_model.training.trainer import Trainer
from schemas.locks import held
from schemas.manifest import read_manifest

OPTIONS = {"batch_size": 2, "steps": 4, "checkpoint_every": 50, "validate_every": 50, "val_fraction": 0.4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards, and a finished run of each stage."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("going-on")
    write_shards(folder / "shards", episodes=4, frames=3)
    for stage in (1, 2):
        exportable = EXPORTABLE if stage == 1 else {}
        train(smaller(prepare(request(folder, stage, folder / f"stage{stage}", **exportable))))
    return folder


def request(folder, stage, output, data="shards", resume=False, **options):
    given = options if resume else {**OPTIONS, **options}
    motion = folder / "stage1" if stage == 2 else None
    where = None if data is None else folder / data
    return Request(stage, where, output, motion, options=given, resume=resume, device="cpu")


def unfinished(folder, tmp_path, stage=2):
    run = shutil.copytree(folder / f"stage{stage}", tmp_path / "run")
    (run / "model.safetensors").unlink()
    return run


def rebuilt(folder, name):
    """The same recipe and the same number of samples, and other actions."""

    def other(triplet):
        return replace(triplet, actions=(triplet.actions * 3).astype(np.float32))

    return write_shards(folder / name, episodes=4, frames=3, change=other)


# The same shards


def test_shards_that_were_built_again_with_other_actions_are_refused_with_both_named(folder, tmp_path):
    made, first = read_manifest(rebuilt(folder, "again")), read_manifest(folder / "shards")
    assert (made.recipe_digest, made.samples) == (first.recipe_digest, first.samples), "else this tests nothing"
    run = unfinished(folder, tmp_path)
    before = (run / "statistics.json").read_bytes()
    began = read_config(run).data.manifests["fixture"]
    with pytest.raises(BadRun, match=rf"manifest of fixture was {began[:12]} and is [0-9a-f]{{12}}; give the same"):
        prepare(request(folder, 2, run, data="again", resume=True))
    assert (run / "statistics.json").read_bytes() == before


def test_statistics_are_never_written_again(folder, tmp_path):
    run = unfinished(folder, tmp_path)
    changed = json.dumps(read_statistics(run) | {"mark": 1}).encode()
    (run / "statistics.json").write_bytes(changed)
    train(prepare(request(folder, 2, run, data=None, resume=True)))
    assert (run / "statistics.json").read_bytes() == changed


def test_shards_that_were_moved_are_asked_for_and_remembered(folder, tmp_path):
    run = unfinished(folder, tmp_path)
    shutil.copytree(folder / "shards", tmp_path / "here")
    config = json.loads((run / "config.json").read_text())
    config["data"]["path"] = str(tmp_path / "gone")
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadRun, match=r"shards in .*gone, which are not there any more: .* --data"):
        prepare(request(folder, 2, run, data=None, resume=True))
    train(prepare(replace(request(folder, 2, run, data=None, resume=True), data=tmp_path / "here")))
    assert read_config(run).data.path == str(tmp_path / "here")
    prepare(request(folder, 2, run, data=None, resume=True))


def test_a_run_of_another_version_is_refused_by_it(folder, tmp_path):
    run = unfinished(folder, tmp_path)
    config = json.loads((run / "config.json").read_text())
    del config["version"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadRun, match="has version 1, and this program reads version 2: train it again"):
        read_config(run)


@pytest.mark.parametrize("name", ["output", "motion"])
def test_an_address_is_no_folder_of_a_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"--{name} is s3://bucket/x, and only folders and files of this"):
        train_command(Train(stage=2, **{name: Path("s3://bucket/x")}))
    assert not list(tmp_path.iterdir())


# One process


def test_a_folder_is_trained_in_by_one_process(folder, tmp_path):
    prepared = smaller(prepare(request(folder, 1, tmp_path / "run")))
    (tmp_path / "run").mkdir()
    with held(tmp_path / "run" / LOCK), pytest.raises(BadRun, match="another lamp-train is training in"):
        train(prepared)
    other = smaller(prepare(request(folder, 1, tmp_path / "run")))
    train(prepared)
    with pytest.raises(BadRun, match="holds a run that was begun a moment ago"):
        train(other)
    assert (tmp_path / "run/model.safetensors").is_file()


# Checksums


@pytest.mark.parametrize("name", ["model.safetensors", "motion.safetensors"])
def test_changed_weights_are_refused_wherever_they_are_loaded(folder, tmp_path, name):
    run = shutil.copytree(folder / "stage2", tmp_path / "run")
    data = bytearray((run / name).read_bytes())
    data[-4096:] = bytes(4096)
    (run / name).write_bytes(data)
    assert read_tensors(run / name), "it still reads: only the checksum tells"
    from lamp_model.published.export import export_policy

    for load in (lambda: load_policy(run, device="cpu"), lambda: export_policy(run, tmp_path / "exported")):
        with pytest.raises(BadCheckpoint, match=rf"{name} is damaged: its SHA-256 is"):
            load()
    assert not (tmp_path / "exported").exists()


def test_a_changed_motion_expert_is_refused_by_stage_2(folder, tmp_path):
    first = shutil.copytree(folder / "stage1", tmp_path / "stage1")
    (first / "model.safetensors.sha256").write_text(f"{'0' * 64}  model.safetensors\n")
    with pytest.raises(BadCheckpoint, match="and not 000000000000"):
        train(smaller(prepare(replace(request(folder, 2, tmp_path / "run"), motion=first))))
    assert not (tmp_path / "run").exists()
    with pytest.raises(BadCheckpoint, match="damaged"):
        load_motion_expert(first, device="cpu")
    (first / "model.safetensors.sha256").unlink()
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors\.sha256, the checksum"):
        load_motion_expert(first, device="cpu")


# Stopping


def test_asked_to_stop_it_saves_what_was_done_and_goes_on_to_the_same_weights(folder, tmp_path, monkeypatch):
    stop, step = StopRequest(), Trainer.step

    def asked_at_the_third(self, batch):
        result = step(self, batch)
        stop.asked = self.done == 3
        return result

    monkeypatch.setattr(Trainer, "step", asked_at_the_third)
    with pytest.raises(Stopped) as stopped:
        train(smaller(prepare(request(folder, 1, tmp_path / "run", **EXPORTABLE))), stop)
    monkeypatch.undo()
    assert stopped.value.saved == 3 and steps_in(tmp_path / "run/checkpoints") == [3]
    train(prepare(request(folder, 1, tmp_path / "run", data=None, resume=True)))
    expected, found = (read_tensors(run / "model.safetensors") for run in (folder / "stage1", tmp_path / "run"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (signal.SIGTERM, 143, r"told to stop \(SIGTERM\); step 2 is kept; go on with lamp-train --stage 1 "),
        (signal.SIGINT, 130, "interrupted; go on with lamp-train --stage 1 "),
    ],
)
def test_signals_end_with_their_code_and_one_hint_that_works(folder, tmp_path, monkeypatch, capsys, number, code, says):
    step, before = Trainer.step, signal.getsignal(signal.SIGTERM)

    def signalled(self, batch):
        result = step(self, batch)
        if self.done == 2:
            os.kill(os.getpid(), number)
        return result

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(Trainer, "step", signalled)
    args = Train(
        stage=1, data=folder / "shards", output=tmp_path / "run", steps=4, batch_size=1, val_fraction=0.0, device="cpu"
    )
    assert run_command(lambda: train_command(args)) == code
    assert signal.getsignal(signal.SIGTERM) is before
    said = [line for line in capsys.readouterr().err.splitlines() if "lamp-train: " in line]
    assert len(said) == 1
    assert re.search(says, said[0])
    words = said[0].split("go on with lamp-train ")[1].split()
    assert words[::2] == ["--stage", "--output", "--resume"]
    monkeypatch.undo()
    assert train_command(Train(stage=int(words[1]), output=tmp_path / "run", resume=True, device="cpu")) == 0


def test_told_to_stop_before_anything_was_written_the_same_command_is_the_way_on(folder, tmp_path, monkeypatch, capsys):
    from lamp_model.training import run as running

    monkeypatch.setattr(running, "_build", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    args = Train(stage=1, data=folder / "shards", output=tmp_path / "run", device="cpu")
    assert train_command(args) == 143
    assert "give the same command again" in capsys.readouterr().err and not (tmp_path / "run").exists()


# What is learnt


def test_held_out_episodes_are_not_in_the_statistics(folder, tmp_path):
    """The widest action is a held-out episode's: the build's statistics know it, the run's do not."""
    prepared = prepare(request(folder, 2, tmp_path / "run"))
    train_on, held_out = prepared.split
    chunk = prepared.config.model.action.chunk
    samples = [prepared.data.read(int(n)) for n in train_on]
    actions = np.concatenate([t.actions[:chunk][t.action_mask[:chunk]] for t in samples])
    states = np.stack([t.state for t in samples])
    kept = read_statistics(folder / "stage2")
    for name, rows in (("action", actions), ("state", states)):
        for key, found in (("min", rows.min(0)), ("max", rows.max(0)), ("mean", rows.mean(0, dtype=float))):
            np.testing.assert_allclose(kept[name][key], found, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(kept[name]["q01"], np.quantile(rows.astype(float), 0.01, axis=0), rtol=1e-6)
    everything = run_statistics(prepared.data, None)
    assert len(held_out) and kept["state"]["max"] != everything["state"]["max"]
    assert kept["num_samples"] == len(train_on)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_weights_stay_finite_where_a_loss_is_not(folder, tmp_path, monkeypatch, where):
    from lamp_model.training import run as running
    from lamp_model.training.stages import MotionStage
    from lamp_model.training.trainer import TrainingFailed

    prepared = smaller(prepare(request(folder, 1, tmp_path / "run")))
    prepared.folder.mkdir()
    loader, _ = running._loaders(prepared)
    trainer = Trainer(running._build(prepared, None), prepared.config.training, prepared.folder, loader, None)
    trainer.step(loader.batch(0))
    before = {name: parameter.detach().clone() for name, parameter in trainer.learning.items()}
    name, weight = next((n, p) for n, p in trainer.learning.items() if n.endswith("proj_out.bias"))

    def damaged(self, batch, draws):
        fine = sum(p.sum() for p in trainer.learning.values())
        broken = weight.sum() * torch.nan if where == "loss" else torch.sqrt(weight.sum() * 0)
        one = torch.tensor(1)
        return {"path": LossTerm(fine, one), "motion": LossTerm(broken, one)}

    monkeypatch.setattr(MotionStage, "losses", damaged)
    says = "the motion loss is nan at step 2" if where == "loss" else rf"the gradient of {name} is not"
    with pytest.raises(TrainingFailed, match=says):
        trainer.step(loader.batch(1))
    assert all(torch.equal(trainer.learning[n], value) for n, value in before.items()) and trainer.done == 1


@pytest.mark.parametrize(("padding", "masked"), [("masked", True), ("repeat", False)])
def test_padded_actions_are_masked_but_in_the_authors_mode(folder, tmp_path, monkeypatch, padding, masked):
    from lamp_model.networks.action_transformer import ActionTransformer
    from lamp_model.training import run as running

    prepared = smaller(prepare(request(folder, 2, tmp_path / "run")))
    prepared.folder.mkdir()
    stage = running._build(prepared, running._statistics(prepared))
    stage.model.config = replace(stage.model.config, padding=padding)
    batch, seen, forward = running._loaders(prepared)[0].batch(0), [], ActionTransformer.forward

    def watched(self, told, context, present=None):
        seen.append(present)
        return forward(self, told, context, present)

    monkeypatch.setattr(ActionTransformer, "forward", watched)
    stage.losses(batch, stage.draw(batch.size, torch.Generator().manual_seed(0)))
    assert len(seen) == 1 and (torch.equal(seen[0], batch.action_mask) if masked else seen[0] is None)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_held_out_batch_is_encoded_once(folder, stage, tmp_path, monkeypatch):
    from lamp_model.model import MotionModel
    from lamp_model.training import run as running

    prepared = smaller(prepare(request(folder, stage, tmp_path / "run")))
    prepared.folder.mkdir()
    built = running._build(prepared, running._statistics(prepared))
    train_on, validation = running._loaders(prepared)
    trainer = Trainer(built, prepared.config.training, prepared.folder, train_on, validation)
    calls, encode = [], MotionModel.encode
    monkeypatch.setattr(MotionModel, "encode", lambda self, *a: calls.append(1) or encode(self, *a))
    assert trainer.validate()["val_loss"] > 0
    assert len(calls) == -(-len(validation.numbers) // validation.batch_size)


def test_usage_of_a_failed_command_stays_a_sentence(folder, tmp_path):
    (tmp_path / "run").mkdir()
    with held(tmp_path / "run" / LOCK), pytest.raises(Failed, match="another lamp-train is training in"):
        train_command(Train(stage=1, data=folder / "shards", output=tmp_path / "run", device="cpu"))
