"""Bridge's raw folders: pickles, numbered pictures, late cameras, words among confidences."""

import json
import os
import pickle

import cv2
import numpy as np
import pytest
from fixtures.rlds import jpeg, textured

from pipeline.episodes.camera_choice import chosen_cameras
from pipeline.errors import UnreadableSource
from pipeline.readers.bridge import BridgeReader, Config
from schemas.episode import BadEpisode, EpisodeRef

READER = BridgeReader()
STATES = np.arange(91, dtype=np.float64).reshape(13, 7)
ACTIONS = -np.arange(84, dtype=np.float64).reshape(12, 7)
TASK = "bridge_data_v2/toykitchen1/put_pot/07"
NEW, OLD = "2022-03-04_14-36-57", "2021-07-22_09-10-11"


def shade(number):
    """A picture that tells its number: a grey square of that shade."""
    image = textured(48, 64, 1)
    image[20:36, 24:48] = 10 * number
    return image


def write_pictures(folder, count, black=False):
    folder.mkdir(parents=True)
    for number in range(count):
        data = jpeg(shade(number) * (not black)).getvalue()
        (folder / f"im_{number}.jpg").write_bytes(data)


def write_depth(folder, count, dtype=np.uint16):
    folder.mkdir(parents=True)
    for number in range(count):
        assert cv2.imwrite(str(folder / f"im_{number}.png"), np.full((48, 64), 200 + number, dtype))


def write(root, date=NEW, cameras=(0,), group="traj_group0", traj="traj0", words="put the pot away\nconfidence: 0.9\n"):
    """A trajectory of 13 states and 12 actions, as the robot's own software writes it."""
    folder = root / TASK / date / "raw" / group / traj
    for number in cameras:
        write_pictures(folder / f"images{number}", len(STATES))
    observed = {"full_state": STATES, "env_done": [False] * 13, "t_get_obs": 0.1, "time_stamp": STATES[:, 0]}
    (folder / "obs_dict.pkl").write_bytes(pickle.dumps(observed))
    told = [{"actions": a, "new_robot_transform": np.eye(4), "policy_type": "VRTeleopPolicy"} for a in ACTIONS]
    (folder / "policy_out.pkl").write_bytes(pickle.dumps(told))
    if words is not None:
        (folder / "lang.txt").write_text(words)
    return folder


def refs(root):
    return list(READER.list_episodes(root))


def read(root, reader=READER):
    (ref,) = refs(root)
    return reader.read(ref)


def shown(frames):
    """The numbers of the pictures, by their shades."""
    return [round(float(frame[24:32, 28:44].mean()) / 10) for frame in frames]


def test_a_trajectory_has_its_pictures_states_actions_and_words(tmp_path):
    write(tmp_path)
    episode = read(tmp_path)
    assert episode.ref.source == f"{TASK}/{NEW}/raw/traj_group0/traj0/obs_dict.pkl"
    assert (episode.primary, episode.fps, episode.length) == ("images0", 5, 13)
    assert np.array_equal(episode.state, STATES) and np.array_equal(episode.actions[:12], ACTIONS)
    assert episode.action_mask.tolist() == [True] * 12 + [False]
    assert episode.instructions == ("put the pot away",)
    view = episode.views["images0"]
    assert view.size == (64, 48) and view.fixed and view.intrinsics is None
    assert np.abs(view.frames[3].astype(int) - shade(3)).mean() < 6
    assert episode.source_frames is None and not episode.notes


def test_pictures_are_in_the_order_of_their_numbers(tmp_path):
    write(tmp_path)
    assert shown(read(tmp_path).views["images0"].frames) == list(range(13))


def test_trajectories_are_listed_in_the_order_of_their_numbers(tmp_path):
    for traj in ("traj10", "traj2", "traj1"):
        write(tmp_path, traj=traj)
    assert [ref.source.split("/")[-2] for ref in refs(tmp_path)] == ["traj1", "traj2", "traj10"]


def test_before_july_2021_pictures_and_states_came_a_step_late(tmp_path):
    """The published shift: observations from the second on, actions up to the last but one; and the way back still
    holds.
    """
    write(tmp_path, OLD)
    episode = read(tmp_path)
    assert episode.length == 12 and shown(episode.views["images0"].frames) == list(range(1, 13))
    assert np.array_equal(episode.state, STATES[1:])
    assert np.array_equal(episode.actions[:11], ACTIONS[:11]) and episode.action_mask.sum() == 11
    assert [episode.source_frame(t) for t in (0, 11)] == [1, 12]


def test_a_folder_without_a_date_says_that_none_is_known(tmp_path):
    write(tmp_path, "somewhere")
    assert "unknown" in read(tmp_path).notes["date"] and read(tmp_path).length == 13


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("put the pot away\nConfidence: 0.8\nmove the pot\nconfidence: 0.6\n", ("put the pot away", "move the pot")),
        ("confidence: 0.8\n", ()),
        (" \n\n", ()),
        ("put it \nput it\n", ("put it",)),
        (None, ()),
    ],
)
def test_confidences_and_blanks_are_no_instructions(tmp_path, words, kept):
    write(tmp_path, words=words)
    assert read(tmp_path).instructions == kept


def test_cameras_have_the_places_that_the_recording_names(tmp_path):
    folder = write(tmp_path, cameras=(0, 1, 2))
    topics = ["/blue/image_raw", "/D435/color/image_raw", "/wrist/image_raw"]
    config = {"agent": {"env": ["class", {"camera_topics": topics}]}}
    (folder.parents[2] / "config.json").write_text(json.dumps(config))
    episode = read(tmp_path)
    assert (episode.primary, episode.wrist) == ("images1", "images2")
    assert [episode.views[f"images{i}"].fixed for i in range(3)] == [False, True, False]


def test_without_names_the_first_stands_still_and_the_fourth_is_on_the_wrist(tmp_path):
    write(tmp_path, cameras=(0, 1, 2, 3))
    episode = read(tmp_path)
    assert (episode.primary, episode.wrist) == ("images0", "images3")


def test_a_camera_that_lacks_pictures_is_left_out_and_said(tmp_path):
    folder = write(tmp_path, cameras=(0, 1))
    (folder / "images1" / "im_4.jpg").unlink()
    episode = read(tmp_path)
    assert list(episode.views) == ["images0"]
    assert "images1 has 12 pictures for 13 states, im_4.jpg is missing" in episode.notes["camera images1"]


@pytest.mark.parametrize("start", [NEW, OLD])
def test_a_camera_that_lacks_its_last_picture_cuts_the_trajectory_and_that_is_noted(tmp_path, start):
    folder = write(tmp_path / "cut", start, cameras=(0, 1))
    (folder / "images0" / "im_12.jpg").unlink()
    write(tmp_path / "whole", start, cameras=(0, 1))
    cut, whole = read(tmp_path / "cut"), read(tmp_path / "whole")
    assert cut.length == whole.length - 1 and list(cut.views) == ["images0", "images1"]
    assert np.array_equal(cut.state, whole.state[:-1]) and np.array_equal(cut.actions, whole.actions[:-1])
    assert cut.action_mask.all() and not whole.action_mask[-1]
    assert cut.notes["cut"].startswith(f"to {whole.length - 1} of {whole.length} states")
    for name, view in cut.views.items():
        assert np.array_equal(view.frames, whole.views[name].frames[:-1])


def test_a_first_camera_that_cannot_be_used_costs_only_itself(tmp_path):
    folder = write(tmp_path, cameras=(0, 1))
    (folder / "images0" / "im_3.jpg").unlink()
    episode = read(tmp_path)
    assert list(episode.views) == ["images1"] and chosen_cameras(episode, ["images1"]) == ["images1"]
    with pytest.raises(BadEpisode, match=r"im_3\.jpg is missing") as error:
        chosen_cameras(episode, ["primary"])
    assert error.value.code == "rows_mismatch"


def test_a_folder_of_pictures_that_may_not_be_opened_costs_its_camera(tmp_path, monkeypatch):
    write(tmp_path, cameras=(0, 1))
    real = os.listdir

    def listdir(path="."):
        if os.path.basename(os.fspath(path)) == "images1":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    episode = read(tmp_path)
    assert list(episode.views) == ["images0"]
    assert "images1 cannot be opened: Permission denied" in episode.notes["camera images1"]


def test_depth_without_a_unit_is_left_out_and_said_and_with_one_it_is_metres(tmp_path):
    folder = write(tmp_path)
    write_depth(folder / "depth_images0", 13)
    episode = read(tmp_path)
    assert episode.views["images0"].depth is None and "unit is not recorded" in episode.notes["depth"]
    episode = read(tmp_path, BridgeReader(Config(depth_unit=0.001)))
    depth = episode.views["images0"].depth.read()
    assert np.allclose(depth[:, 0, 0], (200 + np.arange(13)) / 1000) and not episode.notes


def test_depth_is_shifted_with_its_pictures(tmp_path):
    write_depth(write(tmp_path, OLD) / "depth_images0", 13)
    view = read(tmp_path, BridgeReader(Config(depth_unit=0.01))).views["images0"]
    assert np.allclose(view.depth.read()[:, 0, 0], (201 + np.arange(12)) / 100)


@pytest.mark.parametrize("unit", [0, -1, 1, float("nan")])
def test_an_absurd_unit_of_depth_is_refused(unit):
    with pytest.raises(ValueError, match="depth_unit must lie between 0 and 1"):
        Config(depth_unit=unit)


class Runs:
    def __reduce__(self):
        return os.system, ("touch hostile",)


def swap(name, value):
    return lambda folder: (folder / name).write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))


OBSERVED = pickle.dumps({"full_state": STATES})
DEFECTS = {
    "hostile states": (swap("obs_dict.pkl", {"full_state": Runs()}), "hostile_pickle", "obs_dict.pkl is refused"),
    "hostile actions": (swap("policy_out.pkl", [Runs()]), "hostile_pickle", "policy_out.pkl is refused"),
    "cut pickle": (swap("obs_dict.pkl", OBSERVED[:300]), "bad_pickle", "obs_dict.pkl cannot be read"),
    "no pickle": (swap("policy_out.pkl", b"<html>"), "bad_pickle", "policy_out.pkl cannot be read"),
    "no states": (swap("obs_dict.pkl", {"state": STATES}), "missing_field", "has no full_state"),
    "list": (swap("obs_dict.pkl", [STATES]), "missing_field", "has no full_state"),
    "no actions": (swap("policy_out.pkl", [{"policy": 1}] * 12), "missing_field", "has no actions"),
    "words": (swap("obs_dict.pkl", {"full_state": ["a"] * 13}), "wrong_shape", "rows of 7 numbers"),
    "ragged": (swap("policy_out.pkl", [[1.0] * 7, [1.0] * 6] * 6), "wrong_shape", "rows of 7 numbers"),
    "narrow": (swap("obs_dict.pkl", {"full_state": STATES[:, :6]}), "wrong_shape", "[T, 7], found [13, 6]"),
    "infinite": (swap("obs_dict.pkl", {"full_state": np.full((13, 7), np.inf)}), "not_finite", "not finite"),
    "too many actions": (swap("policy_out.pkl", list(STATES)), "rows_mismatch", "need 12 actions; 13 are there"),
    "no picture": (lambda f: (f / "images0/im_3.jpg").unlink(), "rows_mismatch", "im_3.jpg is missing"),
    "extra picture": (lambda f: (f / "images0/im_13.jpg").write_bytes(b""), "rows_mismatch", "has 14 pictures for 13"),
    "empty picture": (lambda f: (f / "images0/im_0.jpg").write_bytes(b""), "bad_picture", "no JPEG or PNG"),
    "folder": (lambda f: ((f / "images0/im_0.jpg").unlink(), (f / "images0/im_0.jpg").mkdir()), "bad_picture", "im_0"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make, code, says = DEFECTS[name]
    make(write(tmp_path / "data"))
    with pytest.raises(BadEpisode) as error:
        read(tmp_path / "data")
    assert error.value.code == code and says in str(error.value)
    assert "traj0/obs_dict.pkl:trajectory" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "hostile").exists()


def test_depth_that_is_no_depth_is_named(tmp_path):
    write_depth(write(tmp_path) / "depth_images0", 13, np.uint8)
    depth = read(tmp_path, BridgeReader(Config(depth_unit=0.001))).views["images0"].depth
    with pytest.raises(BadEpisode, match=r"im_0\.png must be 16-bit grey of 64 x 48, found uint8"):
        depth.read()


def test_black_pictures_are_no_camera(tmp_path):
    folder = write(tmp_path)
    write_pictures(folder / "images1", 13, black=True)
    assert list(read(tmp_path).views) == ["images0"]


def test_a_trajectory_without_its_actions_is_named_and_the_others_are_listed(tmp_path):
    write(tmp_path, traj="traj1")
    (write(tmp_path, traj="traj0") / "policy_out.pkl").unlink()
    fault, ref = refs(tmp_path)
    assert isinstance(fault, UnreadableSource) and fault.code == "missing_file" and "policy_out.pkl" in str(fault)
    assert isinstance(ref, EpisodeRef)


def test_a_changed_file_is_a_changed_episode(tmp_path):
    folder = write(tmp_path)
    (before,) = refs(tmp_path)
    (folder / "lang.txt").write_text("something else\n")
    (after,) = refs(tmp_path)
    assert before.fingerprint != after.fingerprint and before.digest == after.digest
