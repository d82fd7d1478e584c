"""A dataset that no reader knows: its keys are shown, and the draft of a mapping file reads it as it stands."""

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.command import lamp_data, said
from fixtures.lerobot import SAMPLE as LEROBOT
from fixtures.lerobot import moving, write_lerobot
from fixtures.rlds import SAMPLE as BRIDGE
from readers.test_mapped_reader import write_rt1

from pipeline.inspection_datasets.keys import dataset_keys, draft_mapping, keys_text, keys_values
from pipeline.readers._mapping_file import load_mapping
from pipeline.readers.mapped import Config, MappedReader


def read_by_draft(root: Path, tmp_path: Path):
    """The first episode, by the draft of its mapping."""
    path = tmp_path / "my.yaml"
    path.write_text(draft_mapping(dataset_keys(root)[0]))
    reader = MappedReader(Config(mapping=load_mapping(path)))
    return reader.read(next(iter(reader.list_episodes(root))))


def test_the_draft_reads_a_real_lerobot_set(tmp_path):
    episode = read_by_draft(LEROBOT, tmp_path)
    assert episode.fps == 20 and episode.state.shape[1] == episode.actions.shape[1] == 44
    assert "pick the" in episode.instructions[0]
    assert list(episode.views) == ["observation.images.ego_view"], "the other camera is described and has no videos"


def test_the_draft_reads_a_real_rlds_set(tmp_path):
    episode = read_by_draft(BRIDGE.parent, tmp_path)
    assert (episode.primary, episode.wrist) == ("image_0", None)
    assert episode.state.shape == episode.actions.shape == (10, 7)
    assert episode.instructions and "file_path" in episode.notes


def test_the_draft_takes_actions_in_parts_apart_from_other_numbers(tmp_path):
    write_rt1(tmp_path / "data")
    episode = read_by_draft(tmp_path / "data", tmp_path)
    assert episode.action_convention.dimensions[-3:] == ("world_vector_0", "world_vector_1", "world_vector_2")
    assert not any("embedding" in name for name in episode.state_names) and episode.state.shape[1]


def test_wrist_and_depth_are_guessed_from_their_names(tmp_path):
    video = {f"observation.images.{name}": moving(3) for name in ("wrist", "top")}
    columns = {"observation.state": np.zeros((3, 2)), "action": np.zeros((3, 2)), "reward": np.zeros(3)}
    folder = write_lerobot(tmp_path / "a b:c", "v2.1", [{"task": "wave", "video": video, "columns": columns}], 12.5)
    info = json.loads((folder / "meta/info.json").read_text())
    info["features"]["observation.depth.top"] = {"dtype": "image", "shape": [64, 96, 1], "names": None}
    (folder / "meta/info.json").write_text(json.dumps(info))
    draft = draft_mapping(dataset_keys(tmp_path)[0])
    for line in (
        "name: a_b_c",
        "fps: 12.5",
        "primary: observation.images.top",
        "wrist: observation.images.wrist",
        "# depth: {key: observation.depth.top, metres_per_unit: 0.001}",
        "# success: {key: reward, above: 0}",
    ):
        assert line in draft
    assert read_by_draft(tmp_path, tmp_path).wrist == "observation.images.wrist"


def test_keys_from_strangers_cannot_break_the_draft_or_the_terminal(tmp_path):
    video = {"observation.images.top": moving(3)}
    columns = {'action: "x"\n- y': np.zeros((3, 2)), "state\x1b[31m": np.zeros((3, 2))}
    write_lerobot(tmp_path / "set", "v2.1", [{"task": "wave", "video": video, "columns": columns}], 10)
    assert read_by_draft(tmp_path, tmp_path).state.shape == (3, 2)
    assert "\x1b" not in keys_text(tmp_path, dataset_keys(tmp_path))


def test_the_command_shows_the_keys_and_writes_the_draft_once(tmp_path):
    told = lamp_data("inspect", LEROBOT, "--draft-mapping", "my.yaml", folder=tmp_path)
    assert told.returncode == 0 and not told.stderr
    for words in ("lerobot in", "observation.state", "numbers", "written to my.yaml", "'valid'"):
        assert words in told.stdout
    told = lamp_data("inspect", LEROBOT, "--dataset", "my.yaml", folder=tmp_path)
    assert "observation.images.ego_view (primary) 256 x 256" in told.stdout
    told = lamp_data("inspect", LEROBOT, "--draft-mapping", "my.yaml", folder=tmp_path)
    assert told.returncode == 2 and "my.yaml is there already" in said(told)


@pytest.mark.parametrize("root", [LEROBOT, BRIDGE.parent])
def test_every_key_is_shown(root):
    (keys, *_) = dataset_keys(root)
    assert json.loads(json.dumps(keys_values([keys])))["folders"][0]["form"] == keys.form
    text = keys_text(root, [keys])
    assert len(keys.keys) > 10 and all(key.key in text for key in keys.keys)
