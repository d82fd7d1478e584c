"""LIBERO, Bridge and DROID from LeRobot: the same episode as from their own forms,
with each line's own traps undone.
"""

import numpy as np
import pytest
from fixtures.lerobot import SAMPLE, moving, write_lerobot

from pipeline.actions import with_standard_actions
from pipeline.actions.libero import Config as ActionsConfig
from pipeline.actions.libero import LiberoActions
from pipeline.episodes.camera_choice import chosen_cameras
from pipeline.errors import SeveralForms, UnreadableSource
from pipeline.readers.bridge import BridgeReader
from pipeline.readers.droid import DroidReader
from pipeline.readers.libero import LiberoReader
from schemas.episode import BadEpisode
from schemas.plugins import configure, load_plugin, plugin_names

LENGTH = 6
VERSIONS = ["v2.1", "v3.0"]
TASK = "open the drawer"


def numbers(width):
    return np.arange(LENGTH * width, dtype=np.float32).reshape(LENGTH, width) / 100


def read(reader, tmp_path):
    (ref,) = reader.list_episodes(tmp_path)
    return reader.read(ref)


def close_to(found, expected):
    return np.abs(found.astype(int) - expected).mean() < 6


def write_libero(tmp_path, line, version="v2.0"):
    """Both published lines hold the pictures mirrored."""
    stored = {"image": moving(LENGTH, 64, 64)[:, :, ::-1], "wrist_image": moving(LENGTH, 64, 64, 1)[:, :, ::-1]}
    if line == "observation":
        episode = {
            "video": {f"observation.images.{name}": frames for name, frames in stored.items()},
            "columns": {"observation.state": numbers(8), "action": numbers(7)},
        }
    else:
        episode = {"image": stored, "columns": {"state": numbers(8), "actions": numbers(7)}}
    return write_lerobot(tmp_path / "set", version, [{"task": TASK, **episode}], 20 if line == "observation" else 10)


@pytest.mark.parametrize("version", ["v2.0", *VERSIONS])
@pytest.mark.parametrize("line", ["observation", "short"])
def test_both_lines_of_libero(tmp_path, line, version):
    write_libero(tmp_path, line, version)
    episode = read(LiberoReader(), tmp_path)
    assert close_to(episode.views[episode.primary].frames, moving(LENGTH, 64, 64)), "the mirror is undone"
    assert close_to(episode.views[episode.wrist].frames, moving(LENGTH, 64, 64, 1))
    focal = [episode.views[name].intrinsics[0, 0] for name in (episode.primary, episode.wrist)]
    assert focal == pytest.approx([309.02 / 4, 166.8 / 4], rel=1e-3)
    assert episode.views[episode.primary].fixed and not episode.views[episode.wrist].fixed
    assert episode.instructions == (TASK,)
    assert np.allclose(episode.state, numbers(8)) and np.allclose(episode.actions, numbers(7))


def test_libero_runs_at_20_whatever_the_label(tmp_path):
    write_libero(tmp_path, "short")
    episode = read(LiberoReader(), tmp_path)
    assert episode.fps == 20 and episode.notes["fps"] == "labelled 10, recorded at 20"


def test_the_grippers_sign_is_each_lines_own(tmp_path):
    said = {}
    for line in ("observation", "short"):
        write_libero(tmp_path / line, line)
        said[line] = read(LiberoReader(), tmp_path / line).action_convention
    assert "1 open, 0 closed" in said["observation"].description
    assert "-1 open, +1 close" in said["short"].description
    assert said["observation"].name != said["short"].name


def test_two_lines_with_opposite_grippers_are_asked_apart(tmp_path):
    for line in ("observation", "short"):
        write_libero(tmp_path / line, line)
    with pytest.raises(
        SeveralForms, match="opposite grippers, open in observation/set and simulator in short/set"
    ) as error:
        list(LiberoReader().list_episodes(tmp_path))
    assert "--dataset-options line=open or line=simulator" in str(error.value)
    for line, folder in (("open", "observation"), ("simulator", "short")):
        refs = list(LiberoReader(configure("pipeline.readers", "libero", {"line": line})).list_episodes(tmp_path))
        assert {ref.source.split("/")[0] for ref in refs} == {folder}
    standard = [
        with_standard_actions(read(LiberoReader(), tmp_path / line), LiberoActions(ActionsConfig())).standard_actions
        for line in ("observation", "short")
    ]
    assert standard[0].convention == standard[1].convention, "in the standard form they are alike"


def write_bridge(tmp_path, version, black=(1, 3), width=8, available=None):
    state = numbers(width)
    columns = {"observation.state": state, "action": numbers(7)}
    for number, there in (available or {}).items():
        columns[f"observation.images.image_{number}_available"] = np.full(LENGTH, there)
    video = {f"observation.images.image_{i}": moving(LENGTH, 64, 64, i) * (i not in black) for i in range(4)}
    write_lerobot(tmp_path / "bridge", version, [{"task": TASK, "video": video, "columns": columns}], 5.0)
    return state


@pytest.mark.parametrize("version", ["v2.0", *VERSIONS])
def test_bridge_leaves_out_black_videos_and_the_padding_of_the_state(tmp_path, version):
    state = write_bridge(tmp_path, version)
    episode = read(BridgeReader(), tmp_path)
    assert list(episode.views) == ["observation.images.image_0", "observation.images.image_2"]
    assert np.allclose(episode.state, state[:, [0, 1, 2, 3, 4, 5, 7]])
    assert episode.state_names[-1] == "gripper" and episode.fps == 5
    assert close_to(episode.views["observation.images.image_2"].frames, moving(LENGTH, 64, 64, 2))
    assert episode.views[episode.primary].intrinsics is None and episode.views[episode.primary].fixed


def test_bridge_believes_a_column_that_says_a_camera_was_not_there(tmp_path):
    write_bridge(tmp_path, "v3.0", black=(), width=7, available={1: False, 2: True})
    episode = read(BridgeReader(), tmp_path)
    assert [name[-1] for name in episode.views] == ["0", "2", "3"] and episode.state.shape == (LENGTH, 7)


def test_a_black_primary_camera_costs_the_episode_only_where_it_is_asked_for(tmp_path):
    write_bridge(tmp_path, "v2.1", black=(0,))
    episode = read(BridgeReader(), tmp_path)
    with pytest.raises(BadEpisode, match=r"image_0 is black.*pictures of observation.images.image_1") as error:
        chosen_cameras(episode, ["primary"])
    assert error.value.code == "black_camera" and episode.length == LENGTH
    assert chosen_cameras(episode, ["observation.images.image_2"]) == ["observation.images.image_2"]
    assert [name[-1] for name in chosen_cameras(episode, ["all"])] == ["1", "2", "3"]


def test_an_episode_without_a_camera_that_was_recorded_is_refused(tmp_path):
    write_bridge(tmp_path, "v2.1", black=range(4))
    with pytest.raises(BadEpisode, match="image_3 is black; no camera was recorded") as error:
        read(BridgeReader(), tmp_path)
    assert error.value.code == "black_camera"


def write_droid(tmp_path, version, success=True):
    cameras = ("exterior_1_left", "exterior_2_left", "wrist_left")
    columns = {
        "observation.state.cartesian_position": numbers(6),
        "observation.state.gripper_position": numbers(1)[:, 0],
        "observation.state.joint_position": numbers(7),
        "action.original": numbers(7),
        "action": numbers(8),
        "is_episode_successful": np.full(LENGTH, success),
        "language_instruction": [TASK] * LENGTH,
        "language_instruction_2": [""] * LENGTH,
        "language_instruction_3": ["pull"] * LENGTH,
    }
    video = {f"observation.images.{name}": moving(LENGTH, 90, 160, i) for i, name in enumerate(cameras)}
    write_lerobot(tmp_path / "droid", version, [{"task": TASK, "video": video, "columns": columns}], 15.0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("reader", "write", "gone"),
    [
        (DroidReader(), write_droid, ["observation.images.exterior_2_left", "observation.images.wrist_left"]),
        (
            LiberoReader(),
            lambda root, version: write_libero(root, "observation", version),
            ["observation.images.wrist_image"],
        ),
        (BridgeReader(), lambda root, version: write_bridge(root, version, ()), ["observation.images.image_2"]),
    ],
)
def test_missing_videos_of_other_cameras_and_of_the_wrist_cost_only_them(tmp_path, reader, write, gone, version):
    write(tmp_path, version)
    for path in [p for p in tmp_path.rglob("*.mp4") if set(gone) & set(p.parts)]:
        path.unlink()
    episode = read(reader, tmp_path)
    assert episode.primary in episode.views and episode.wrist is None and not set(gone) & set(episode.views)
    assert {name: error.code for name, error in episode.unusable_cameras.items()} == dict.fromkeys(
        gone, "missing_video"
    )
    assert all(episode.notes[f"camera {name}"].startswith("missing_video: ") for name in gone)


@pytest.mark.parametrize("success", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_droid_keeps_three_cameras_all_instructions_and_the_outcome(tmp_path, version, success):
    write_droid(tmp_path, version, success)
    episode = read(DroidReader(), tmp_path)
    assert [name.removeprefix("observation.images.") for name in episode.views] == [
        "exterior_1_left",
        "exterior_2_left",
        "wrist_left",
    ]
    assert episode.instructions == (TASK, "pull") and episode.success is success
    assert np.allclose(episode.state, np.concatenate([numbers(6), numbers(1), numbers(7)], 1))
    assert np.allclose(episode.actions, numbers(7)) and episode.fps == 15
    for number, view in enumerate(episode.views.values()):
        assert close_to(view.frames, moving(LENGTH, 90, 160, number))
        assert view.fixed == (number < 2)


def test_droids_old_conversion_is_refused(tmp_path):
    write_droid(tmp_path, "v2.0")
    (problem,) = DroidReader().list_episodes(tmp_path)
    assert isinstance(problem, UnreadableSource) and "v2.0 swapped the exterior cameras" in str(problem)


@pytest.mark.parametrize(
    "name", [n for n in plugin_names("pipeline.readers") if n != "mapped"]
)  # it asks for a mapping
def test_a_folder_that_is_missing_or_empty_is_answered_with_what_belongs_there(tmp_path, name):
    module = load_plugin("pipeline.readers", name)
    for folder, says in ((tmp_path / "none", "does not exist; put "), (tmp_path, "holds no ")):
        with pytest.raises(FileNotFoundError, match="name their folder with --input") as error:
            next(iter(module.build(module.Config()).list_episodes(folder)))
        assert str(error.value).startswith(f"{folder} {says}")


@pytest.mark.parametrize("reader", [LiberoReader(), BridgeReader(), DroidReader()])
def test_another_robots_dataset_is_refused_by_name(reader):
    (problem,) = reader.list_episodes(SAMPLE)
    assert isinstance(problem, UnreadableSource) and problem.code == "foreign_features"
    assert "is it another dataset's folder?" in str(problem)
