"""DROID's raw folders: HDF5 beside MP4 files that say another rate, two eyes, serial numbers, texts apart."""

import json

import av
import h5py
import numpy as np
import pytest
from fixtures.lerobot import moving
from readers.test_droid_reader import AWAY, FACING, INTRINSICS, TOOL

from pipeline.episodes.camera_choice import chosen_cameras
from pipeline.errors import UnreadableSource
from pipeline.inspection_datasets.report import report_dataset, report_values
from pipeline.readers.droid import Config, DroidReader
from schemas.cameras import invert_pose, project, transform
from schemas.episode import BadEpisode, EpisodeRef

UUID = "AUTOLab+5d05c5aa+2023-07-07-10h-30m-15s"
RECORDING = "AUTOLab/success/2023-07-07/Fri_Jul__7_10:30:15_2023"
SERIALS = {"ext1": "11", "ext2": "22", "wrist": "33"}
CAMERAS = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
T, SIZE = 6, (160, 90)
READER = DroidReader(Config(reduced=1))
HAND = TOOL + np.linspace(0, 0.3, T)[:, None] * [1, 0, 0]


def write_video(path, frames):
    """As DROID's own software writes it: MPEG-4, 60 pictures a second whatever the robot's rate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=60, options={"qscale": "2"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())


def pictures(seed, length=T):
    return moving(length, SIZE[1], SIZE[0], seed)


def poses_of(entry, length=T):
    return np.tile(np.asarray(entry, float), (length, 1))


def beside(entry, metres):
    """The pose of an eye beside another, along the camera's own x axis, which for FACING is the robot's -y."""
    return (entry[0], entry[1] + metres, *entry[2:])


def write_h5(path, extrinsics):
    with h5py.File(path, "w") as file:
        state = {
            "cartesian_position": np.concatenate([HAND, np.zeros((T, 3))], 1),
            "gripper_position": np.full(T, 0.25),
        }
        for name, values in (state | {"joint_positions": np.tile(np.arange(7) / 10, (T, 1))}).items():
            file[f"observation/robot_state/{name}"] = values
        action = {"cartesian_position": np.arange(6 * T).reshape(T, 6) / 10, "gripper_position": np.full(T, 0.75)}
        for name, values in (action | {"cartesian_velocity": np.full((T, 6), 0.5)}).items():
            file[f"action/{name}"] = values
        for name, values in extrinsics.items():
            file[f"observation/camera_extrinsics/{name}"] = values
        file["observation/timestamp/skip_action"] = np.zeros(T, bool)
        file.attrs.update(success=True, current_task="Move object")


def write(root, recording=RECORDING, uuid=UUID, extrinsics=None, stereo=()):
    folder = root / recording
    for seed, serial in enumerate(SERIALS.values()):
        write_video(folder / f"recordings/MP4/{serial}.mp4", pictures(seed))
    for serial in stereo:
        seed = list(SERIALS.values()).index(serial)
        both = np.concatenate([pictures(seed), pictures(seed + 10)], axis=2)
        write_video(folder / f"recordings/MP4/{serial}-stereo.mp4", both)
    write_h5(folder / "trajectory.h5", extrinsics or {})
    metadata = {"uuid": uuid, "lab": "AUTOLab", "success": True, "trajectory_length": T, "current_task": "Move object"}
    metadata |= {f"{name}_cam_serial": serial for name, serial in SERIALS.items()}
    (folder / f"metadata_{uuid}.json").write_text(json.dumps(metadata))
    return folder


def calibrate(root, pose=FACING, uuid=UUID, serials=("11", "33")):
    tables = {
        "episode_id_to_path": {uuid: RECORDING},
        "camera_serials": {uuid: {f"{name}_cam_serial": serial for name, serial in SERIALS.items()}},
        "intrinsics": {uuid: {serial: {"cameraMatrix": list(INTRINSICS)} for serial in serials}},
        "cam2base_extrinsics": {uuid: {"11": list(pose)} if pose else {}},
    }
    for name, table in tables.items():
        (root / f"{name}.json").write_text(json.dumps(table))


def refs(root, reader=READER):
    return list(reader.list_episodes(root))


def read(root, reader=READER):
    (ref,) = refs(root)
    return reader.read(ref)


def test_an_episode_has_its_cameras_numbers_and_outcome(tmp_path):
    write(tmp_path)
    episode = read(tmp_path)
    assert episode.ref.source == f"{RECORDING}/trajectory.h5"
    assert (episode.primary, episode.wrist, episode.fps, episode.length) == (CAMERAS[0], CAMERAS[2], 15, T)
    assert episode.success is True and list(episode.views) == list(CAMERAS)
    assert np.allclose(episode.state[:, :3], HAND) and episode.state[0, 6] == 0.25
    assert episode.state[0, 7:] == pytest.approx(np.arange(7) / 10)
    assert episode.actions[2].tolist() == pytest.approx([1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 0.75])
    assert episode.other_actions["cartesian_velocity"].shape == (T, 6)
    for seed, view in enumerate(episode.views.values()):
        assert view.size == SIZE and view.stereo is None and view.intrinsics is None
        assert np.abs(view.frames.astype(int) - pictures(seed)).mean() < 6, (
            "a picture a step, though the file says 60 a second"
        )
    assert [view.fixed for view in episode.views.values()] == [True, True, False]


def test_pictures_are_made_smaller_as_the_rlds_form_has_them(tmp_path):
    write(tmp_path)
    calibrate(tmp_path)
    small = read(tmp_path, DroidReader(Config(reduced=2))).views[CAMERAS[0]]
    whole = read(tmp_path).views[CAMERAS[0]]
    assert small.size == (80, 45) and np.allclose(small.intrinsics[:2] * 2, whole.intrinsics[:2])
    blocks = whole.frames[:, :90, :160].reshape(T, 45, 2, 80, 2, 3).mean((2, 4))
    assert np.abs(small.frames - blocks).mean() < 2, "a video's colours are coarser than its brightness"
    assert np.abs((small.frames - blocks) @ [0.299, 0.587, 0.114]).mean() < 0.7


def test_failures_are_told_apart_by_their_path(tmp_path):
    write(tmp_path, RECORDING.replace("success", "failure"))
    assert read(tmp_path).success is False


def test_annotations_stand_before_the_collectors_task(tmp_path):
    write(tmp_path)
    assert read(tmp_path).instructions == ("Move object",)
    assert "collector's task" in read(tmp_path).notes["instruction"]
    texts = {"language_instruction2": "lift it", "language_instruction1": "lift the pot ", "language_instruction3": ""}
    (tmp_path / "aggregated-annotations-030724.json").write_text(json.dumps({UUID: texts}))
    assert read(tmp_path).instructions == ("lift the pot", "lift it") and "instruction" not in read(tmp_path).notes


def test_annotations_of_a_release_lie_beside_its_labs(tmp_path):
    write(tmp_path / "droid_raw" / "1.0.1")
    path = tmp_path / "droid_raw" / "1.0.1" / "aggregated-annotations-030724.json"
    path.write_text(json.dumps({UUID: {"language_instruction1": "lift the pot"}}))
    assert read(tmp_path).instructions == ("lift the pot",)


def test_annotations_that_cannot_be_read_are_named_and_the_task_stands_in(tmp_path):
    write(tmp_path)
    (tmp_path / "aggregated-annotations-030724.json").write_text("{")
    fault, ref = refs(tmp_path)
    assert isinstance(fault, UnreadableSource) and fault.code == "bad_annotations"
    assert READER.read(ref).instructions == ("Move object",)


def test_calibration_files_are_joined_by_the_episodes_id(tmp_path):
    write(tmp_path)
    calibrate(tmp_path)
    episode = read(tmp_path)
    view = episode.views[CAMERAS[0]]
    assert np.allclose(view.intrinsics, [[65, 0, 80], [0, 66.25, 45], [0, 0, 1]])
    (u, v, depth) = project(transform(invert_pose(view.world_from_camera), TOOL[None]), view.intrinsics)[0]
    assert (u, v, depth) == pytest.approx((80 + 65 * 0.05 / 0.9, 45 + 66.25 * 0.1 / 0.9, 0.9))
    assert episode.notes[f"calibration of {CAMERAS[1]}"] == "none for this episode"


def test_the_calibration_of_another_episode_is_not_taken(tmp_path):
    write(tmp_path)
    calibrate(tmp_path, uuid="CLVR+00000000+2023-01-01-00h-00m-00s")
    assert read(tmp_path).views[CAMERAS[0]].intrinsics is None


def test_the_recordings_own_pose_is_taken_where_it_shows_the_tool(tmp_path):
    write(tmp_path, extrinsics={"11_left": poses_of(FACING)})
    calibrate(tmp_path, pose=None)
    view = read(tmp_path).views[CAMERAS[0]]
    assert view.world_from_camera.shape == (1, 4, 4) and "the recording's own" in view.pose_source


def test_a_recordings_own_pose_that_misses_the_tool_is_refused(tmp_path):
    write(tmp_path, extrinsics={"11_left": poses_of(AWAY)})
    calibrate(tmp_path, pose=None)
    episode = read(tmp_path)
    assert episode.views[CAMERAS[0]].world_from_camera is None
    assert "tool would be in view in 0%" in episode.notes[f"calibration of {CAMERAS[0]}"]


def test_without_intrinsics_nobody_can_check_a_pose_so_none_is_taken(tmp_path):
    write(tmp_path, extrinsics={"11_left": poses_of(FACING)})
    assert read(tmp_path).views[CAMERAS[0]].world_from_camera is None


def test_a_file_pose_that_misses_gives_way_to_the_recordings_own(tmp_path):
    write(tmp_path, extrinsics={"11_left": poses_of(FACING)})
    calibrate(tmp_path, pose=AWAY)
    assert "the recording's own" in read(tmp_path).views[CAMERAS[0]].pose_source


def test_the_wrist_camera_moves_with_the_hand_or_its_poses_are_refused(tmp_path):
    riding = np.concatenate([HAND + np.array([0.05, 0, 0.1]), poses_of(FACING)[:, 3:]], 1)
    for name, extrinsics, believed in (("riding", riding, True), ("still", poses_of(FACING), False)):
        write(tmp_path / name, extrinsics={"33_left": extrinsics})
        calibrate(tmp_path / name)
        episode = read(tmp_path / name)
        view = episode.views[CAMERAS[2]]
        assert (view.world_from_camera is not None) is believed
        if believed:
            assert np.allclose(view.world_from_camera[:, :3, 3], riding[:, :3])
        else:
            assert "does not move with the hand" in episode.notes[f"calibration of {CAMERAS[2]}"]


def test_two_eyes_are_a_stereo_pair_with_the_makers_baseline(tmp_path):
    eyes = {"11_left": poses_of(FACING), "11_right": poses_of(beside(FACING, -0.117))}
    eyes |= {"33_left": poses_of(FACING), "33_right": poses_of(beside(FACING, 0.065))}
    write(tmp_path, extrinsics=eyes, stereo=("11", "33"))
    views = read(tmp_path).views
    assert (views[CAMERAS[0]].stereo.baseline_m, views[CAMERAS[2]].stereo.baseline_m) == (0.12, 0.063)
    assert views[CAMERAS[1]].stereo is None
    told = [camera["depth"] for camera in report_values(report_dataset(tmp_path, 1))["cameras"]]
    assert told == ["two eyes 0.12 m apart (--depth stereo)", None, "two eyes 0.063 m apart (--depth stereo)"]
    right = views[CAMERAS[0]].stereo.read_right()
    assert right.shape == views[CAMERAS[0]].frames.shape and np.abs(right.astype(int) - pictures(10)).mean() < 6


@pytest.mark.parametrize(("apart", "says"), [(0.3, "0.300 m apart"), (None, "does not say how far apart")])
def test_eyes_at_no_known_distance_are_left_out_and_said(tmp_path, apart, says):
    eyes = {"11_left": poses_of(FACING)}
    eyes |= {} if apart is None else {"11_right": poses_of(beside(FACING, apart))}
    write(tmp_path, extrinsics=eyes, stereo=("11",))
    episode = read(tmp_path)
    assert episode.views[CAMERAS[0]].stereo is None and says in episode.notes[f"stereo of {CAMERAS[0]}"]


def test_the_left_eye_comes_from_the_file_with_both_where_there_is_no_other(tmp_path):
    folder = write(tmp_path, stereo=("11",))
    (folder / "recordings/MP4/11.mp4").unlink()
    frames = read(tmp_path).views[CAMERAS[0]].frames
    assert np.abs(frames.astype(int) - pictures(0)).mean() < 6


def test_a_second_camera_without_its_video_is_left_out_and_said(tmp_path):
    (write(tmp_path) / "recordings/MP4/22.mp4").unlink()
    episode = read(tmp_path)
    assert list(episode.views) == [CAMERAS[0], CAMERAS[2]]
    assert f"there is no recordings/MP4/22.mp4 for {CAMERAS[1]}" in episode.notes[f"camera {CAMERAS[1]}"]
    with pytest.raises(BadEpisode, match=r"22\.mp4 for exterior_image_2_left") as error:
        chosen_cameras(episode, [CAMERAS[1]])
    assert error.value.code == "missing_video"


@pytest.mark.parametrize(
    ("serial", "damage", "code"),
    [("11", None, "missing_video"), ("11", b"ftyp", "bad_video"), ("33", None, ""), ("33", b"ftyp", "")],
)
def test_a_camera_that_nobody_asked_for_costs_only_itself(tmp_path, serial, damage, code):
    path = write(tmp_path) / f"recordings/MP4/{serial}.mp4"
    path.unlink() if damage is None else path.write_bytes(damage)
    episode = read(tmp_path)
    gone = CAMERAS[list(SERIALS.values()).index(serial)]
    assert list(episode.views) == [name for name in CAMERAS if name != gone] and episode.length == T
    assert episode.wrist == (None if gone == CAMERAS[2] else CAMERAS[2])
    assert chosen_cameras(episode, [CAMERAS[1]]) == [CAMERAS[1]]
    if code:
        with pytest.raises(BadEpisode) as error:
            chosen_cameras(episode, ["primary"])
        assert error.value.code == code and episode.ref.name in str(error.value)


@pytest.mark.parametrize("serial", ["11", "22", "33"])
def test_a_video_that_ends_a_picture_early_cuts_the_episode_and_that_is_noted(tmp_path, serial):
    seed = list(SERIALS.values()).index(serial)
    whole = read(tmp_path / "whole") if write(tmp_path / "whole") else None
    write_video(write(tmp_path / "cut") / f"recordings/MP4/{serial}.mp4", pictures(seed, T - 1))
    episode = read(tmp_path / "cut")
    assert episode.length == T - 1 and len(episode.views) == 3 and not episode.unusable_cameras
    assert episode.notes["cut"] == f"to {T - 1} of {T} steps: {serial}.mp4 has no more pictures"
    for name in ("state", "actions", "action_mask"):
        assert np.array_equal(getattr(episode, name), getattr(whole, name)[:-1])
    for name, values in episode.other_actions.items():
        assert np.array_equal(values, whole.other_actions[name][:-1])
    for view in episode.views.values():
        assert len(view.frames) == view.length == T - 1


def test_a_cut_episode_keeps_its_poses(tmp_path):
    """The recording's own poses are as many as its rows."""
    folder = write(tmp_path, extrinsics={"11_left": poses_of(FACING)})
    write_video(folder / "recordings/MP4/22.mp4", pictures(1, T - 1))
    calibrate(tmp_path, pose=None)
    view = read(tmp_path).views[CAMERAS[0]]
    assert view.pose_source.startswith("the recording's own") and view.length == T - 1


def edit(change):
    def make(folder):
        with h5py.File(folder / "trajectory.h5", "r+") as file:
            change(file)

    return make


def swap(key, values):
    def change(file):
        del file[key]
        if values is not None:
            file[key] = values

    return edit(change)


def words(text):
    return lambda folder: next(folder.glob("metadata_*.json")).write_text(text)


HAND_KEY = "observation/robot_state/cartesian_position"
DEFECTS = {
    "cut h5": (lambda f: (f / "trajectory.h5").write_bytes(b"\x89HDF"), "unreadable_episode", "cannot be read as HDF5"),
    "no state": (swap(HAND_KEY, None), "missing_field", HAND_KEY),
    "short state": (swap(HAND_KEY, np.zeros((T - 1, 6))), "rows_mismatch", "cartesian_position 5"),
    "narrow state": (swap(HAND_KEY, np.zeros((T, 5))), "wrong_shape", "found [6, 5]"),
    "words": (swap(HAND_KEY, [b"x"] * T), "wrong_dtype", "must hold numbers"),
    "infinite": (swap(HAND_KEY, np.full((T, 6), np.inf)), "not_finite", "not finite"),
    "no action": (swap("action/gripper_position", None), "missing_field", "action/gripper_position"),
    "metadata": (words("{"), "bad_metadata", "cannot be read"),
    "no serial": (words("{}"), "bad_metadata", "ext1_cam_serial"),
    "serial leads away": (
        words(json.dumps(dict.fromkeys(("ext1_cam_serial", "ext2_cam_serial", "wrist_cam_serial"), "../../../x"))),
        "bad_metadata",
        "names no serial number",
    ),
    "no video at all": (
        lambda f: [path.write_bytes(b"ftyp") for path in (f / "recordings/MP4").iterdir()],
        "bad_video",
        "cannot be decoded",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_named(tmp_path, name):
    make, code, says = DEFECTS[name]
    make(write(tmp_path))
    with pytest.raises(BadEpisode) as error:
        read(tmp_path)
    assert error.value.code == code and says in str(error.value) and "\n" not in str(error.value)


def test_a_video_that_ends_long_before_the_recording_is_left_out_and_cuts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.readers._camera_views.MOST_SHORT", 1)
    folder = write(tmp_path)
    write_video(folder / "recordings/MP4/11.mp4", pictures(0, T - 2))
    episode = read(tmp_path)
    assert list(episode.views) == list(CAMERAS[1:]) and episode.length == T
    with pytest.raises(
        BadEpisode, match=r"11\.mp4 of exterior_image_1_left ends after 4 of the episode's 6 frames"
    ) as error:
        chosen_cameras(episode, ["primary"])
    assert error.value.code == "video_too_short"


@pytest.mark.parametrize("which", ["metadata_*.json", "recordings/MP4/*.mp4"])
def test_a_recording_without_its_other_files_is_named(tmp_path, which):
    folder = write(tmp_path)
    for path in folder.glob(which):
        path.unlink()
    (fault,) = refs(tmp_path)
    assert isinstance(fault, UnreadableSource) and fault.code == "missing_file"


def test_a_changed_text_is_a_changed_episode(tmp_path):
    write(tmp_path)
    (before,) = refs(tmp_path)
    (tmp_path / "aggregated-annotations-030724.json").write_text(json.dumps({UUID: {}}))
    after = next(ref for ref in refs(tmp_path) if isinstance(ref, EpisodeRef))
    assert before.fingerprint != after.fingerprint and before.digest == after.digest


def test_an_absurd_reduction_is_refused():
    with pytest.raises(ValueError, match="reduced must be 1, 2, 4 or 8, found 3"):
        Config(reduced=3)
