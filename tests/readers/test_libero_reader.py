"""The LIBERO reader: each convention of the files is undone exactly, measured on the shipped episodes and their exact
flow.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from fixtures.libero import INSTRUCTION, ROOT, SHIPPED, Demo, replace, shipped, write_file

from pipeline.episodes.camera_choice import chosen_cameras
from pipeline.errors import UnreadableSource
from pipeline.readers.libero import LiberoReader
from schemas.episode import BadEpisode, EpisodeRef

READER = LiberoReader()


def refs_in(folder):
    return [r for r in READER.list_episodes(folder) if isinstance(r, EpisodeRef)]


def only_episode(folder):
    (ref,) = refs_in(folder)
    return READER.read(ref)


@pytest.fixture(params=[0, 1])
def real(request):
    """A shipped episode, what its file holds, and its exact flow."""
    ref = refs_in(ROOT / "data" / "libero")[request.param]
    truth = np.load(SHIPPED.with_name(SHIPPED.name.replace(".hdf5", f"_{request.param}_gt.npz")))
    return READER.read(ref), shipped(request.param)["arrays"], truth


def at_keypoints(maps, truth):
    """Values of maps at the keypoints of the exact flow's reference frames."""
    column, row = np.floor(truth["uv0"]).astype(int).T
    return np.stack([maps[frame][row, column] for frame in truth["ref"]])


def test_depth_is_the_simulators_depth_at_every_keypoint_upright_unmirrored_and_in_metres(real):
    episode, _, truth = real
    depth = episode.views["agentview"].depth.read()
    exact = truth["track"][:, 0, :, 2]
    assert np.percentile(np.abs(at_keypoints(depth, truth) - exact), 99) < 1e-4
    for wrong in (depth[:, ::-1], depth[:, :, ::-1]):
        assert np.percentile(np.abs(at_keypoints(wrong, truth) - exact), 99) > 0.05
    assert episode.views["agentview"].depth.unit == "m"


def test_pictures_are_stored_upside_down_and_only_that_is_undone(real):
    episode, arrays, _ = real
    for name in ("agentview", "eye_in_hand"):
        frames = episode.views[name].frames
        assert np.array_equal(frames, arrays[f"obs/{name}_rgb"][:, ::-1])
        assert frames.flags.c_contiguous


def test_the_camera_is_the_simulators(real):
    episode, _, truth = real
    view = episode.views["agentview"]
    assert np.allclose(view.intrinsics, truth["K"])
    assert np.allclose(view.world_from_camera[0, :3, :3], truth["Rc"][0], atol=1e-5)
    assert np.allclose(view.world_from_camera[0, :3, 3], truth["tc"][0], atol=1e-5)
    assert view.fixed and view.size == (128, 128)


def test_the_wrist_camera_has_its_own_field_of_view_and_no_fixed_pose(real):
    episode, _, _ = real
    view = episode.views[episode.wrist]
    assert view.intrinsics[0, 0] == pytest.approx(64 / np.tan(np.radians(75) / 2))
    assert view.world_from_camera is None and not view.fixed


def test_an_action_goes_with_the_frame_that_was_seen_before_it(real):
    episode, arrays, _ = real
    assert np.array_equal(episode.actions[:-1], arrays["actions"][1:].astype(np.float32))
    assert episode.action_mask[:-1].all() and not episode.action_mask[-1]
    assert not episode.actions[-1].any()
    assert np.array_equal(episode.state[:, :6], arrays["obs/ee_states"].astype(np.float32))
    assert np.array_equal(episode.state[:, 6:], arrays["obs/gripper_states"].astype(np.float32))
    assert len(episode.state_names) == 8 and episode.fps == 20


def test_demos_come_by_number_and_files_by_path(tmp_path):
    demos = [Demo(number, frames=2) for number in (10, 2, 1, 0, 11)]
    write_file(tmp_path / "b" / "x_demo.hdf5", demos)
    write_file(tmp_path / "a" / "y_demo.hdf5", demos[:2])
    found = [(r.source, r.episode) for r in refs_in(tmp_path)]
    assert found == [("a/y_demo.hdf5", "demo_2"), ("a/y_demo.hdf5", "demo_10")] + [
        ("b/x_demo.hdf5", f"demo_{n}") for n in (0, 1, 2, 10, 11)
    ]


def test_what_is_no_demo_is_not_listed(tmp_path):
    def add(file):
        file["data"].create_group("mask")
        file["data"].create_group("demo_x")

    write_file(tmp_path / "x_demo.hdf5", [Demo(frames=2)], add)
    (tmp_path / ".hidden_demo.hdf5").write_text("not looked at")
    assert [r.episode for r in READER.list_episodes(tmp_path)] == ["demo_0"]


def test_an_episode_is_named_by_where_it_lies_below_the_folder_and_not_by_the_folder(tmp_path):
    for folder in ("here", "there"):
        write_file(tmp_path / folder / "s" / "x_demo.hdf5", [Demo(frames=2)])
    (here,), (there,) = refs_in(tmp_path / "here"), refs_in(tmp_path / "there")
    assert here.digest == there.digest and here.name == "s/x_demo.hdf5:demo_0"
    (other,) = refs_in(tmp_path / "here" / "s")
    assert other.digest != here.digest


def test_a_changed_file_has_another_fingerprint(tmp_path):
    path = write_file(tmp_path / "x_demo.hdf5", [Demo(frames=2)])
    (before,) = refs_in(tmp_path)
    write_file(path, [Demo(frames=3)])
    (after,) = refs_in(tmp_path)
    assert before.digest == after.digest and before.fingerprint != after.fingerprint


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (INSTRUCTION, (INSTRUCTION,)),
        (f'"{INSTRUCTION}" ', (INSTRUCTION,)),
        (list("put it"), ("put it",)),
        ("  ", ()),
        ('""', ()),
    ],
)
def test_the_instruction_is_the_text_of_problem_info(tmp_path, stored, read):
    def change(file):
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": stored})

    write_file(tmp_path / "x_demo.hdf5", [Demo(frames=2)], change)
    assert only_episode(tmp_path).instructions == read


def test_a_file_without_problem_info_has_no_instruction(tmp_path):
    write_file(tmp_path / "x_demo.hdf5", [Demo(frames=2)], lambda file: file["data"].attrs.pop("problem_info"))
    assert only_episode(tmp_path).instructions == ()


@pytest.mark.parametrize(("rewards", "success"), [([0, 1], True), ([0, 0], False), ([], None)])
def test_success_is_the_last_reward(tmp_path, rewards, success):
    write_file(tmp_path / "x_demo.hdf5", [Demo(frames=2)], lambda f: replace(f, "rewards", rewards))
    assert only_episode(tmp_path).success is success


def test_a_file_without_the_wrist_camera_is_read_without_it_and_one_without_the_other_too(tmp_path):
    def without(name):
        return lambda file: file["data/demo_0/obs"].pop(name)

    write_file(tmp_path / "a" / "x_demo.hdf5", [Demo(frames=4)], without("eye_in_hand_rgb"))
    episode = only_episode(tmp_path / "a")
    assert list(episode.views) == ["agentview"] and episode.wrist is None
    assert episode.notes["camera eye_in_hand"].endswith("has no eye_in_hand_rgb")
    write_file(tmp_path / "b" / "x_demo.hdf5", [Demo(frames=4)], without("agentview_rgb"))
    episode = only_episode(tmp_path / "b")
    assert list(episode.views) == ["eye_in_hand"] and chosen_cameras(episode, ["eye_in_hand"]) == ["eye_in_hand"]
    with pytest.raises(BadEpisode, match="has no agentview_rgb") as error:
        chosen_cameras(episode, ["primary"])
    assert error.value.code == "missing_camera"


def test_planes_come_from_the_models_extent_where_the_depth_does_not_name_them(tmp_path):
    extent, znear = 2.5, 0.001  # the shipped model says znear; zfar stays at MuJoCo's 50

    def change(file):
        depth = file["data/demo_0/obs/agentview_depth"]
        del depth.attrs["znear_m"], depth.attrs["zfar_m"]
        model = file["data/demo_0"].attrs["model_file"]
        file["data/demo_0"].attrs["model_file"] = model.replace("</mujoco>", f'<statistic extent="{extent}"/></mujoco>')

    write_file(tmp_path / "x_demo.hdf5", [Demo(frames=2)], change)
    depth = only_episode(tmp_path).views["agentview"].depth
    near, far = znear * extent, 50 * extent
    buffer = shipped(0)["arrays"]["obs/agentview_depth"][:2, ::-1, :, 0].astype(np.float64)
    assert np.allclose(depth.read(), near / (1 - buffer * (1 - near / far)), rtol=1e-3)
    assert "the simulator's model" in depth.description


def test_depth_without_planes_is_no_depth(tmp_path):
    def change(file):
        del file["data/demo_0/obs/agentview_depth"].attrs["zfar_m"]

    write_file(tmp_path / "x_demo.hdf5", [Demo(frames=2)], change)
    assert only_episode(tmp_path).views["agentview"].depth is None


def test_what_is_no_depth_in_the_buffer_is_nan_and_the_rest_is_untouched(tmp_path):
    bad = {(0, 0): np.nan, (0, 1): np.inf, (0, 2): -np.inf, (0, 3): 0.0, (0, 4): 1.0, (0, 5): -0.5}

    def change(file):
        depth = file["data/demo_0/obs/agentview_depth"]
        for (row, column), value in bad.items():
            depth[0, row, column, 0] = value

    clean = write_file(tmp_path / "clean" / "x_demo.hdf5", [Demo(frames=2)])
    write_file(tmp_path / "bad" / "x_demo.hdf5", [Demo(frames=2)], change)
    expected = only_episode(clean.parent).views["agentview"].depth.read()
    expected[0, -1, :6] = np.nan
    assert np.array_equal(only_episode(tmp_path / "bad").views["agentview"].depth.read(), expected, equal_nan=True)


def test_a_size_or_a_field_of_view_other_than_usual_is_respected(tmp_path):
    def change(file):
        model = file["data/demo_0"].attrs["model_file"]
        file["data/demo_0"].attrs["model_file"] = model.replace('name="agentview"', 'name="agentview" fovy="60"')
        for name in ("agentview_rgb", "agentview_depth"):
            replace(file, f"obs/{name}", file[f"data/demo_0/obs/{name}"][:, :64, :96])

    write_file(tmp_path / "x_demo.hdf5", [Demo(frames=2)], change)
    view = only_episode(tmp_path).views["agentview"]
    assert view.size == (96, 64)
    assert np.allclose(view.intrinsics, [[32 / np.tan(np.pi / 6), 0, 48], [0, 32 / np.tan(np.pi / 6), 32], [0, 0, 1]])


def test_pixels_are_read_when_they_are_asked_for_and_not_before(tmp_path):
    path = write_file(tmp_path / "x_demo.hdf5", [Demo(frames=4)])
    (ref,) = refs_in(tmp_path)
    episode = READER.read(ref)
    path.write_bytes(b"gone")
    with pytest.raises(BadEpisode, match=r"x_demo\.hdf5:demo_0: agentview_rgb cannot be read"):
        _ = episode.views["agentview"].frames


def test_some_frames_are_those_frames_in_the_order_asked(real):
    episode, _, _ = real
    for view in episode.views.values():
        for frames in (np.array([7, 2, 2, 30]), np.array([], int)):
            np.testing.assert_array_equal(view.some_frames(frames), view.frames[frames])
    depth = episode.views["agentview"].depth
    np.testing.assert_array_equal(depth.some(np.array([7, 2])), depth.read()[[7, 2]])


def test_a_missing_or_an_empty_folder_is_answered_with_what_belongs_there(tmp_path):
    for folder, says in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no ")):
        with pytest.raises(FileNotFoundError) as error:
            list(READER.list_episodes(folder))
        assert says in str(error.value) and "--input" in str(error.value) and str(folder) in str(error.value)


def test_a_file_that_cannot_be_listed_is_named_and_the_others_are_listed(tmp_path):
    write_file(tmp_path / "b_demo.hdf5", [Demo(frames=2)])
    (tmp_path / "a_demo.hdf5").write_text("no HDF5")
    (tmp_path / "c_demo.hdf5").symlink_to(tmp_path / "nowhere")
    (tmp_path / "d_demo.hdf5").mkdir()
    (tmp_path / b"e\xff_demo.hdf5".decode(errors="surrogateescape")).write_text("a name that is no UTF-8")
    listed = list(READER.list_episodes(tmp_path))
    unreadable = {r.source: r.code for r in listed if isinstance(r, UnreadableSource)}
    assert unreadable == {
        "a_demo.hdf5": "unreadable_file",
        "c_demo.hdf5": "unreadable_file",
        "d_demo.hdf5": "unreadable_file",
        "e\\udcff_demo.hdf5": "bad_name",
    }
    assert [r.source for r in listed if isinstance(r, EpisodeRef)] == ["b_demo.hdf5"]
    for entry in listed:
        if isinstance(entry, UnreadableSource):
            assert entry.source in str(entry) and "\n" not in str(entry)


MEMORY = """
import resource, sys
from pathlib import Path
from pipeline.readers.libero import LiberoReader
reader, peaks = LiberoReader(), []
for ref in reader.list_episodes(Path(sys.argv[1])):
    episode = reader.read(ref)
    assert sum(view.frames.nbytes for view in episode.views.values()) + episode.views["agentview"].depth.read().nbytes
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks)
"""


def test_memory_does_not_grow_with_the_number_of_demos(tmp_path):
    write_file(tmp_path / "x_demo.hdf5", [Demo(n, frames=30) for n in range(20)])
    ran = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT)
    peaks = [int(word) for word in ran.stdout.split()]
    of_one_demo = 30 * 128 * 128 * (3 + 3 + 4) / 1024
    assert len(peaks) == 20 and of_one_demo > 4000
    assert peaks[-1] - peaks[2] < 2 * of_one_demo  # all of it would be 17 times that


def panda_flange(joints):
    """Pose of a Panda's last link in its base, by the maker's table of Denavit-Hartenberg parameters (Craig's form)."""
    pose = np.eye(4)
    table = zip(
        joints,
        (0, 0, 0, 0.0825, -0.0825, 0, 0.088),
        (0.333, 0, 0.316, 0, 0.384, 0, 0),
        np.pi / 2 * np.array([0, -1, 1, 1, -1, 1, 1]),
        strict=True,
    )
    for angle, a, d, alpha in table:
        c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
        pose = pose @ [[c, -s, 0, a], [s * ca, c * ca, -sa, -d * sa], [s * sa, c * sa, ca, d * ca], [0, 0, 0, 1]]
    return pose


def test_joints_and_base_take_the_hand_where_it_was_recorded(real):
    """Seen from the last link, the recorded hand stays where it is fixed."""
    episode, arrays, _ = real
    told = episode.joints
    assert told.names[:7] == tuple(f"joint{number}" for number in range(1, 8)) and told.positions.shape[1] == 9
    flange = np.stack([told.world_from_base @ panda_flange(row[:7]) for row in told.positions])
    hand = arrays["obs/ee_states"][:, :3] - flange[:, :3, 3]
    fixed = np.einsum("tji,tj->ti", flange[:, :3, :3], hand)
    assert np.abs(fixed - fixed.mean(axis=0)).max() < 0.002 and np.abs(fixed.mean(axis=0) - [0, 0, 0.2]).max() < 0.01
    assert ((told.positions[:, 7:] >= 0) & (told.positions[:, 7:] < 0.05)).all()  # fingers, metres


def test_without_a_model_the_robot_stands_nowhere(tmp_path):
    def change(file):
        del file["data/demo_0"].attrs["model_file"]

    write_file(tmp_path / "x_demo.hdf5", [Demo(frames=3)], change)
    assert only_episode(tmp_path).joints is None


def test_joints_of_another_arm_do_not_keep_an_episode_from_being_read(tmp_path):
    def change(file):
        demo = file["data/demo_0"]
        demo.attrs["model_file"] = '<mujoco><worldbody><body name="robot0_base"/></worldbody></mujoco>'
        demo["obs"].pop("joint_states", None)
        demo["obs/joint_states"] = np.zeros((3, 6))

    write_file(tmp_path / "x_demo.hdf5", [Demo(frames=3)], change)
    assert only_episode(tmp_path).joints is None
