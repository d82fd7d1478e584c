"""The command: what it says and its exit codes. Everything a person can mend is one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.shard import write_shards

from jobs.cli.exit_codes import Failed, UsageError, run_command
from jobs.cli.train_options import Train
from jobs.commands.train import train_command

ROOT = Path(__file__).parents[2]


def command(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "jobs.lamp_train", *words], cwd=cwd, capture_output=True, text=True, env=_environment()
    )


def _environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_help_comes_at_once_and_names_the_defaults(tmp_path):
    shown = command("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for word in ("shards/libero", "runs/stage1", "tiny", "paper", "--resume"):
        assert word in shown.stdout
    assert "None" not in shown.stdout and "--stage {1,2}" in shown.stdout


def test_help_imports_nothing_that_takes_time(tmp_path):
    """Which is what makes it come at once, on any machine."""
    words = [sys.executable, "-X", "importtime", "-m", "jobs.lamp_train", "--help"]
    shown = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=_environment())
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in shown.stderr.splitlines()}
    assert shown.returncode == 0 and "tyro" in imported
    assert not imported & {
        "numpy",
        "torch",
        "transformers",
        "safetensors",
        "cv2",
        "av",
        "h5py",
        "zarr",
        "ray",
        "pydantic",
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--stage", "1"],
            "there are no shards at {here}/shards/libero: build them with lamp-data build --dataset libero",
        ),
        (["--stage", "2", "--data", "elsewhere"], "there are no shards at {here}/elsewhere: look at --data"),
        (["--stage", "1", "--data", "."], "{here} has no manifest.json: its build has not finished"),
    ],
)
def test_missing_data_is_one_sentence_and_exit_code_2(tmp_path, words, says):
    shown = command(*words, cwd=tmp_path)
    assert shown.returncode == 2
    assert says.format(here=tmp_path.resolve()) in shown.stderr and len(shown.stderr.strip().splitlines()) == 1


def test_a_stage_that_there_is_not_is_exit_code_2(tmp_path):
    assert command("--stage", "3", cwd=tmp_path).returncode == 2


def test_usage_and_failed_work_differ(tmp_path):
    data = write_shards(tmp_path / "shards", episodes=2, frames=2)
    with pytest.raises(UsageError, match="device must be auto"):
        train_command(Train(stage=1, data=data, output=tmp_path / "run", device="abacus"))
    with pytest.raises(UsageError, match="needs the Motion Expert"):
        train_command(Train(stage=2, data=data, output=tmp_path / "run", motion=tmp_path / "none"))
    sorted(data.glob("*.npy"))[0].unlink()
    with pytest.raises(Failed, match="is missing"):
        train_command(Train(stage=1, data=data, output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_damaged_sample_ends_with_its_name_and_exit_code_1(tmp_path, capsys):
    data = write_shards(tmp_path / "shards", episodes=2, frames=2)
    for shard in data.glob("*.tar"):
        damaged = bytearray(shard.read_bytes())
        damaged[1000] ^= 1
        shard.write_bytes(damaged)
    args = Train(stage=1, data=data, output=tmp_path / "run", steps=1, batch_size=2, device="cpu")
    assert run_command(lambda: train_command(args)) == 1
    assert "is damaged" in capsys.readouterr().err


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    import errno

    from lamp_model.storage import checkpoints

    def full(path, *_):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    data = write_shards(tmp_path / "shards", episodes=2, frames=2)
    monkeypatch.setattr(checkpoints, "write_tensors", full)
    args = Train(stage=1, data=data, output=tmp_path / "run", steps=1, batch_size=2, device="cpu")
    with pytest.raises(Failed, match=r"No space left on device.*go on with lamp-train --stage 1 .*--resume"):
        train_command(args)
    assert not (tmp_path / "run/model.safetensors").exists()
    assert not list((tmp_path / "run/checkpoints").glob("*"))
