"""The DROID reader on files in the layout of releases 1.0.0 and 1.0.1, with and without calibration files."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from fixtures.rlds import jpeg, textured, write_rlds

from pipeline.errors import UnreadableSource
from pipeline.readers._droid_calibration import pose_of_entry
from pipeline.readers.droid import DroidReader
from schemas.cameras import invert_pose, project, transform
from schemas.episode import EpisodeRef

READER = DroidReader()
CAMERAS = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
RECORDING = "AUTOLab/success/2023-07-07/Fri_Jul__7_10:30:15_2023"
BUCKET = "gs://xembodiment_data/r2d2/r2d2-data-full/"
ID = "AUTOLab+5d05c5aa+2023-07-07-10h-30m-15s"
TOOL = np.array([0.5, 0.05, 0.3])
INTRINSICS = (520.0, 640.0, 530.0, 360.0)  # fx, cx, fy, cy at 1280 x 720
FACING = (1.4, 0.0, 0.4, -np.pi / 2, 0.0, np.pi / 2)  # one metre before the robot, looking back at it
AWAY = (1.4, 0.0, 0.4, -np.pi / 2, 0.0, -np.pi / 2)


def features_of(version):
    """Features of ``droid`` 1.0.0, or of 1.0.1 with its noisy camera poses."""

    def vector(size):
        return tfds.features.Tensor(shape=(size,), dtype=np.float64)

    picture = tfds.features.Image(shape=(180, 320, 3), dtype=np.uint8, encoding_format="jpeg")
    sizes = {"cartesian": 6, "gripper": 1, "joint": 7}
    observation = {f"{name}_position": vector(size) for name, size in sizes.items()}
    actions = {f"{name}_{kind}": vector(size) for name, size in sizes.items() for kind in ("position", "velocity")}
    metadata = {"file_path": tfds.features.Text(), "recording_folderpath": tfds.features.Text()}
    if version == "1.0.1":
        metadata |= {f"extrinsics_{name}": vector(6) for name in ("wrist_cam", "exterior_cam_1", "exterior_cam_2")}
    step = {
        "observation": tfds.features.FeaturesDict({**observation, **dict.fromkeys(CAMERAS, picture)}),
        "action_dict": tfds.features.FeaturesDict(actions),
        "action": vector(7),
        **dict.fromkeys(("discount", "reward"), np.float32),
        **dict.fromkeys(("is_first", "is_last", "is_terminal"), np.bool_),
        **{f"language_instruction{suffix}": tfds.features.Text() for suffix in ("", "_2", "_3")},
    }
    return tfds.features.FeaturesDict(
        {"steps": tfds.features.Dataset(step), "episode_metadata": tfds.features.FeaturesDict(metadata)}
    )


def step_of(number, texts):
    pose = np.concatenate([TOOL + np.array([0.01 * number, 0, 0]), [3.1, 0.1, -0.1]])
    parts = {"cartesian": pose, "gripper": np.full(1, 0.25), "joint": np.arange(7) / 10.0}
    return {
        "observation": {
            **{f"{name}_position": value for name, value in parts.items()},
            **{name: jpeg(textured(180, 320, seed)) for seed, name in enumerate(CAMERAS)},
        },
        "action_dict": {f"{name}_{kind}": v for name, v in parts.items() for kind in ("position", "velocity")},
        "action": np.concatenate([pose, [0.75]]) + number,
        **dict.fromkeys(("discount", "reward"), 0.0),
        **dict.fromkeys(("is_first", "is_last", "is_terminal"), False),
        **dict(zip((f"language_instruction{suffix}" for suffix in ("", "_2", "_3")), texts, strict=True)),
    }


def write(tmp_path, version="1.0.1", texts=("lift the pot", "", "lift the pot "), recording=RECORDING):
    metadata = {"file_path": f"{BUCKET}{recording}/trajectory.h5", "recording_folderpath": f"{BUCKET}{recording}/MP4"}
    if version == "1.0.1":
        metadata |= {f"extrinsics_{name}": np.ones(6) for name in ("wrist_cam", "exterior_cam_1", "exterior_cam_2")}
    episode = {"steps": [step_of(t, texts) for t in range(4)], "episode_metadata": metadata}
    write_rlds(tmp_path / "droid" / version, features_of(version), [episode], "r2d2_faceblur-train")


def write_calibration(tmp_path, intrinsics=INTRINSICS, pose=FACING, episode=RECORDING, folder="."):
    tables = {
        "episode_id_to_path": {ID: episode},
        "camera_serials": {ID: {"ext1_cam_serial": "11", "ext2_cam_serial": "22", "wrist_cam_serial": "33"}},
        "intrinsics": {ID: {serial: {"cameraMatrix": list(intrinsics)} for serial in ("11", "33")}},
        "cam2base_extrinsics": {ID: {"11": list(pose), "relative_path": episode}},
    }
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, table in tables.items():
        (tmp_path / folder / f"{name}.json").write_text(json.dumps(table))


def read(tmp_path):
    (ref,) = READER.list_episodes(tmp_path)
    return READER.read(ref)


@pytest.mark.parametrize("version", ["1.0.0", "1.0.1"])
def test_both_releases_read_alike(tmp_path, version):
    write(tmp_path, version)
    episode = read(tmp_path)
    assert list(episode.views) == list(CAMERAS)
    assert (episode.primary, episode.wrist, episode.fps, episode.length) == (CAMERAS[0], CAMERAS[2], 15, 4)
    assert [view.fixed for view in episode.views.values()] == [True, True, False]
    for seed, view in enumerate(episode.views.values()):
        assert view.size == (320, 180)
        assert np.abs(view.frames[0].astype(int) - textured(180, 320, seed)).mean() < 6
    assert episode.notes["file_path"] == f"{BUCKET}{RECORDING}/trajectory.h5"


def test_poses_that_nobody_can_check_are_not_used(tmp_path):
    write(tmp_path, "1.0.1")
    view = read(tmp_path).views[CAMERAS[0]]
    assert view.intrinsics is None and view.world_from_camera is None


def test_state_and_action_are_the_recorded_numbers(tmp_path):
    write(tmp_path)
    episode = read(tmp_path)
    assert episode.joints.names[0] == "joint1" and np.array_equal(episode.joints.positions, episode.state[:, 7:])
    assert np.array_equal(episode.joints.world_from_base, np.eye(4))  # in which calibration files give poses
    assert episode.state.shape == (4, 14) and len(episode.state_names) == 14
    assert episode.state[2, :3] == pytest.approx([0.52, 0.05, 0.3]) and episode.state[0, 6] == 0.25
    assert episode.state[0, 7:] == pytest.approx(np.arange(7) / 10)
    assert episode.actions[2, 6] == 2.75 and episode.action_mask.all()
    assert "1 closed" in episode.action_convention.description


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (("a", "b", "c"), ("a", "b", "c")),
        (("", "b", " b "), ("b",)),
        (("", " ", "\n"), ()),
    ],
)
def test_every_instruction_is_kept_once_and_blank_ones_are_not(tmp_path, texts, kept):
    write(tmp_path, texts=texts)
    assert read(tmp_path).instructions == kept


@pytest.mark.parametrize(
    ("recording", "success"),
    [(RECORDING, True), (RECORDING.replace("success", "failure"), False), ("somewhere/else", None)],
)
def test_the_outcome_is_read_from_the_path(tmp_path, recording, success):
    write(tmp_path, recording=recording)
    assert read(tmp_path).success is success


@pytest.mark.parametrize("folder", [".", "calibration"])
def test_a_calibration_is_joined_and_scaled_to_the_stored_pictures(tmp_path, folder):
    write(tmp_path)
    write_calibration(tmp_path, folder=folder)
    episode = read(tmp_path)
    view = episode.views[CAMERAS[0]]
    assert np.allclose(view.intrinsics, [[130, 0, 160], [0, 132.5, 90], [0, 0, 1]])
    assert episode.views[CAMERAS[1]].intrinsics is None
    assert episode.notes[f"calibration of {CAMERAS[1]}"] == "none for this episode"
    assert np.allclose(episode.views[CAMERAS[2]].intrinsics, view.intrinsics)
    assert episode.views[CAMERAS[2]].world_from_camera is None


def test_the_pose_shows_the_tool_where_it_is(tmp_path):
    """The camera stands 0.9 m before the tool, 0.1 m above it, 0.05 m beside; seen from the front, left is the robot's
    right.
    """
    write(tmp_path)
    write_calibration(tmp_path)
    view = read(tmp_path).views[CAMERAS[0]]
    (u, v, depth) = project(transform(invert_pose(view.world_from_camera), TOOL[None]), view.intrinsics)[0]
    assert depth == pytest.approx(0.9)
    assert (u, v) == pytest.approx((160 + 130 * 0.05 / 0.9, 90 + 132.5 * 0.1 / 0.9))


def test_euler_angles_turn_about_the_fixed_axes_x_first():
    pose = pose_of_entry((0, 0, 0, np.pi / 2, 0, np.pi / 2))
    assert np.allclose(pose[:3, :3] @ [0, 1, 0], [0, 0, 1]) and np.allclose(pose[:3, :3] @ [1, 0, 0], [0, 1, 0])


def test_a_pose_that_does_not_show_the_tool_is_refused_and_the_intrinsics_stay(tmp_path):
    write(tmp_path)
    write_calibration(tmp_path, pose=AWAY)
    episode = read(tmp_path)
    assert episode.views[CAMERAS[0]].world_from_camera is None
    assert episode.views[CAMERAS[0]].intrinsics is not None
    assert (
        episode.notes[f"calibration of {CAMERAS[0]}"]
        == "pose refused: with it the tool would be in view in 0% of the frames"
    )


def test_intrinsics_in_another_order_are_refused(tmp_path):
    write(tmp_path)
    fx, cx, fy, cy = INTRINSICS
    write_calibration(tmp_path, intrinsics=(fx, fy / 8, cx, cy))
    episode = read(tmp_path)
    assert episode.views[CAMERAS[0]].intrinsics is None
    assert "principal point" in episode.notes[f"calibration of {CAMERAS[0]}"]


def test_the_calibration_of_another_episode_is_not_taken(tmp_path):
    write(tmp_path)
    write_calibration(tmp_path, episode=RECORDING.replace("10:30", "11:45"))
    episode = read(tmp_path)
    assert episode.views[CAMERAS[0]].intrinsics is None
    assert episode.notes[f"calibration of {CAMERAS[0]}"] == "none for this episode"


def test_a_changed_calibration_is_a_changed_episode(tmp_path):
    write(tmp_path)
    (before,) = READER.list_episodes(tmp_path)
    write_calibration(tmp_path)
    (after,) = READER.list_episodes(tmp_path)
    assert before.fingerprint != after.fingerprint and before.digest == after.digest


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_calibration_is_named_and_the_episodes_are_read_without(tmp_path, text):
    write(tmp_path)
    write_calibration(tmp_path)
    (tmp_path / "camera_serials.json").write_text(text)
    problem, ref = READER.list_episodes(tmp_path)
    assert isinstance(problem, UnreadableSource) and problem.code == "bad_calibration"
    assert "camera_serials.json" in str(problem)
    assert isinstance(ref, EpisodeRef) and READER.read(ref).views[CAMERAS[0]].intrinsics is None


def test_an_incomplete_set_of_calibration_files_is_named(tmp_path):
    write(tmp_path)
    write_calibration(tmp_path)
    (tmp_path / "camera_serials.json").unlink()
    problem, _ = READER.list_episodes(tmp_path)
    assert "lacks camera_serials.json" in str(problem)


def test_the_forms_of_the_action_that_standards_are_made_from_are_read(tmp_path):
    write(tmp_path)
    other = read(tmp_path).other_actions
    assert {name: values.shape for name, values in other.items()} == {
        "cartesian_velocity": (4, 6),
        "gripper_position": (4, 1),
    }
    np.testing.assert_allclose(other["cartesian_velocity"][2, :3], TOOL + np.array([0.02, 0, 0]), rtol=1e-6)
    assert (other["gripper_position"] == 0.25).all()
