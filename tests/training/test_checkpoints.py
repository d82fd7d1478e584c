"""Checkpoints: whole or absent, and refused when they are not what was written."""

import os

import pytest
import torch

from lamp_model.errors import BadCheckpoint
from lamp_model.networks.weights import load_weights
from lamp_model.storage import checkpoints
from lamp_model.storage.checkpoints import Checkpoint, load_newest, save_checkpoint, steps_in


def made(step):
    return Checkpoint(
        step, {"a.weight": torch.full((2, 3), float(step))}, {"a.weight::step": torch.tensor(float(step))}
    )


def test_the_newest_comes_back_and_only_two_are_kept(tmp_path):
    assert load_newest(tmp_path) is None
    for step in (5, 10, 15):
        save_checkpoint(tmp_path, made(step))
    assert steps_in(tmp_path) == [10, 15]
    found = load_newest(tmp_path)
    assert found and found.step == 15
    assert torch.equal(found.weights["a.weight"], made(15).weights["a.weight"])
    assert torch.equal(found.optimizer["a.weight::step"], torch.tensor(15.0))


@pytest.mark.parametrize("moment", ["write_tensors", "write_whole", "sha256_of", "os.rename"])
def test_a_kill_while_saving_leaves_the_one_before(tmp_path, monkeypatch, moment):
    save_checkpoint(tmp_path, made(5))

    class Killed(BaseException):
        pass

    def kill(*_, **__):
        raise Killed

    # As after kill -9, nobody cleans up.
    monkeypatch.setattr(checkpoints.shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(*((os, "rename") if moment == "os.rename" else (checkpoints, moment)), kill)
    with pytest.raises(Killed):
        save_checkpoint(tmp_path, made(10))
    monkeypatch.undo()
    assert list(tmp_path.glob(".step-*.partial"))
    found = load_newest(tmp_path)
    assert found and found.step == 5
    assert [p.name for p in tmp_path.iterdir()] == ["step-000005"]


def test_saving_the_same_step_again_replaces_it(tmp_path):
    save_checkpoint(tmp_path, made(5))
    save_checkpoint(tmp_path, made(5))
    assert steps_in(tmp_path) == [5]


@pytest.mark.parametrize("name", [checkpoints.WEIGHTS, checkpoints.OPTIMIZER])
def test_a_flipped_bit_is_noticed(tmp_path, name):
    path = save_checkpoint(tmp_path, made(5)) / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadCheckpoint, match=f"{name} is damaged"):
        load_newest(tmp_path)


@pytest.mark.parametrize("name", [checkpoints.WEIGHTS, checkpoints.STATE])
def test_a_missing_file_is_noticed(tmp_path, name):
    (save_checkpoint(tmp_path, made(5)) / name).unlink()
    with pytest.raises(BadCheckpoint, match="step-000005 is no complete checkpoint"):
        load_newest(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({}, "2 entries are missing"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.zeros(1)}, "1 are left over, e.g. more"),
        ({"weight": torch.zeros(2, 3).long(), "bias": torch.zeros(2)}, "weight holds int64, no weights"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2) + 1j}, "bias holds complex64, no weights"),
        ({"weight": torch.zeros(9, 3), "bias": torch.zeros(2)}, r"weight is \[9, 3\], the model has \[2, 3\]"),
    ],
)
def test_weights_of_another_model_are_refused_and_change_nothing(tensors, says):
    model = torch.nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(BadCheckpoint, match=says):
        load_weights(model, tensors, {"weight", "bias"}, "file")
    assert torch.equal(model.weight, before)


def test_no_file_holds_a_pickle(tmp_path):
    folder = save_checkpoint(tmp_path, made(5))
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".safetensors", ".safetensors"]
