"""``lamp-data inspect`` of a dataset's own folder: what it is, what its numbers mean, what of it cannot be used."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures.lerobot import SAMPLE as LEROBOT
from fixtures.lerobot import moving, write_lerobot
from fixtures.rlds import SAMPLE, SAMPLE_FILE

from pipeline.inspection.shard_paths import CannotInspect
from pipeline.inspection_datasets.report import is_dataset_folder, report_dataset, report_text, report_values

ROOT = Path(__file__).parents[2]
BRIDGE = SAMPLE.parent.parent


def inspect(*words, folder=ROOT):
    command = [sys.executable, "-m", "jobs.lamp_data", "inspect", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_it_says_what_a_person_must_know_before_building():
    values = report_values(report_dataset(BRIDGE, 12))
    assert values["dataset"]["name"] == "bridge" and values["dataset"]["licence"] == "CC BY 4.0"
    assert values["forms"] == [{"form": "rlds", "folder": "bridge_dataset/1.0.0"}]
    assert (values["episodes"], values["looked_at"], values["fps"], values["frames"]) == (3, 3, [5.0], [10, 10, 10])
    assert [camera["name"] for camera in values["cameras"]] == ["image_0", "image_1", "image_2"]
    assert values["cameras"][0] == {
        "name": "image_0",
        "role": "primary",
        "size": [64, 64],
        "moves": "stands still",
        "intrinsics": None,
        "intrinsics_source": "unknown",
        "pose": None,
        "depth": None,
        "episodes": 3,
    }
    assert sum(values["instructions"].values()) == 3 and values["without_instruction"] == 0
    assert values["actions"][0]["convention"] == "bridge_cartesian_delta"
    assert values["notes"] == {"black_cameras: image_3": 3} and not values["faults"]


def test_the_text_names_each_of_these():
    text = report_text(report_dataset(ROOT / "data" / "libero", 12))
    for words in (
        "libero",
        "hdf5 in libero_object",
        "2; 2 looked at",
        "agentview (primary) 128 x 128, stands still; K fx 154.5",
        "eye_in_hand (wrist)",
        "normalised z-buffer",
        "gripper -1 open, +1 close",
        "0 episodes without any",
    ):
        assert words in text


def test_only_as_many_episodes_as_asked_for_are_read_spread_over_the_list():
    report = report_dataset(BRIDGE, 2)
    assert [e.ref.episode for e in report.looked_at] == ["record_0", "record_2"] and report.episodes == 3


def test_faults_of_files_and_of_episodes_are_told(tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "bridge_dataset" / "1.0.0")
    path = tmp_path / "bridge_dataset" / "1.0.0" / SAMPLE_FILE.name
    data = bytearray(path.read_bytes()[:-10])
    data[1000] ^= 1
    path.write_bytes(bytes(data))
    report = report_dataset(tmp_path, 12)
    assert [code for code, _ in report.faults] == ["damaged_records", "damaged_record"]
    assert "1 damaged_record" in report_text(report) and len(report.looked_at) == 1


def test_instructions_and_outcomes_are_counted(tmp_path):
    columns = {"observation.state": np.zeros((4, 8)), "action": np.zeros((4, 7))}
    video = {f"observation.images.image_{i}": moving(4, 64, 64, i) for i in range(2)}
    episodes = [{"task": task, "video": video, "columns": columns} for task in ("lift", " ", "lift")]
    values = report_values(report_dataset(write_lerobot(tmp_path / "set", "v3.0", episodes, 5.0), 12))
    assert values["instructions"] == {"lift": 2} and values["without_instruction"] == 1
    assert values["success"] == {"known": 0, "succeeded": 0}


def test_a_dataset_that_nobody_knows_is_answered_with_what_each_reader_missed():
    with pytest.raises(CannotInspect, match="holds no dataset that a reader knows") as error:
        report_dataset(LEROBOT, 3)
    for name in ("bridge", "droid", "interndata-a1", "libero"):
        assert f"{name}: meta/info.json has no " in str(error.value)
    assert error.value.exit_code == 1


def test_several_datasets_in_one_folder_are_asked_apart(tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "bridge_dataset" / "1.0.0")
    shutil.copytree(ROOT / "data" / "libero", tmp_path / "libero")
    with pytest.raises(CannotInspect, match=r"several datasets \(bridge, libero\); choose with --dataset") as error:
        report_dataset(tmp_path, 3)
    assert error.value.exit_code == 2


def test_shards_are_not_taken_for_a_dataset(tmp_path):
    assert is_dataset_folder(BRIDGE) and not is_dataset_folder(tmp_path) and not is_dataset_folder(SAMPLE_FILE)
    shutil.copytree(SAMPLE, tmp_path / "set")
    assert is_dataset_folder(tmp_path)
    (tmp_path / "shard.tar").touch()
    assert not is_dataset_folder(tmp_path)


def test_the_command_prints_it_as_text_and_as_json():
    told = inspect(BRIDGE)
    assert told.returncode == 0 and "bridge_cartesian_delta" in told.stdout and not told.stderr
    told = inspect(BRIDGE, "--json")
    assert json.loads(told.stdout)["episodes"] == 3


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((BRIDGE, "--sample", "1"), 2, "--sample is for shards"),
        ((BRIDGE, "--shown", "0"), 2, "--shown must be 1 or more, found 0"),
        ((BRIDGE, "--dataset", "none.yaml"), 2, "none.yaml cannot be read"),
        ((BRIDGE, "--form", "lerobot"), 1, "holds no dataset that a reader knows"),
        ((BRIDGE, "--draft-mapping", "my.yaml"), 2, "is read as bridge"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(words, code, says):
    told = inspect(*words)
    assert told.returncode == code and says in told.stderr and told.stderr.count("\n") == 1
    assert not told.stdout
