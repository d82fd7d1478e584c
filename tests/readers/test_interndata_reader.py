"""The InternData-A1 reader: calibration columns in their own order, poses believed only where they are the camera's."""

import json

import numpy as np
import pytest
from fixtures.lerobot import moving, write_lerobot

from pipeline.errors import UnreadableSource
from pipeline.readers._pose_check import mounted_on, share_in_view
from pipeline.readers.interndata_a1 import INFO, InternDataReader
from schemas.cameras import invert_pose, pose_from_quaternion, project, transform

READER = InternDataReader()
LENGTH, SIZE = 8, (96, 64)
HEAD = "images.rgb.head"
INTRINSICS = (80.0, 82.0, 47.0, 33.0)  # fx, fy, cx, cy
TOOL = np.stack([np.linspace(0.4, 0.5, LENGTH), np.linspace(-0.1, 0.1, LENGTH), np.full(LENGTH, 0.2)], 1)
FACING = (1.5, 0.0, 0.2, 0.5, -0.5, -0.5, 0.5)
"""One metre and more before the tool, looking back along -x: the camera's z is the robot's -x, its y the robot's -z."""


def with_rotation(positions):
    """Poses with FACING's rotation at positions."""
    return np.concatenate([positions, np.tile(FACING[3:], (len(positions), 1))], 1).astype(np.float32)


ON_HAND = with_rotation(TOOL + np.array([0.15, 0.0, 0.02]))


def columns_of(arms=("",), intrinsics=INTRINSICS, head=FACING, hand=ON_HAND, tools=None, **more):
    columns = {}
    for number, arm in enumerate(arms):
        for kind in ("states", "actions"):
            start = 10 * number + (100 if kind == "actions" else 0)
            columns[f"{kind}.{arm}joint.position"] = np.arange(LENGTH * 7, dtype=np.float32).reshape(LENGTH, 7) + start
            columns[f"{kind}.{arm}gripper.position"] = np.full(LENGTH, 0.04 + start, np.float32)
        columns[f"states.{arm}tcp_to_robot_pose"] = with_rotation(TOOL if tools is None else tools[number])
    hands = ["hand"] if len(arms) == 1 else ["hand_left", "hand_right"]
    for camera, pose in (("head", head), *((name, hand) for name in hands)):
        columns[f"{camera}_camera_intrinsics"] = np.tile(np.float32(intrinsics), (LENGTH, 1))
        columns[f"{camera}_camera_to_robot_extrinsics"] = np.broadcast_to(np.float32(pose), (LENGTH, 7))
    return columns | more


def read(tmp_path, columns, version="v2.1", hands=("hand",)):
    video = {f"images.rgb.{name}": moving(LENGTH, SIZE[1], SIZE[0], i) for i, name in enumerate(("head", *hands))}
    episode = {"task": "pour the water", "video": video, "columns": columns}
    write_lerobot(tmp_path / "pick" / "franka" / "deep" / "set", version, [episode], 30.0)
    (ref,) = READER.list_episodes(tmp_path)
    return READER.read(ref)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_single_arm(tmp_path, version):
    episode = read(tmp_path, columns_of(), version)
    assert (episode.primary, episode.wrist, episode.fps) == (HEAD, "images.rgb.hand", 30)
    assert episode.instructions == ("pour the water",)
    assert episode.state_names == (*(f"joint_{i}" for i in range(1, 8)), "gripper")
    assert episode.state[1, 0] == 7 and episode.state[0, 7] == pytest.approx(0.04)
    assert episode.actions[1, 0] == 107 and episode.action_convention.dimensions == episode.state_names
    for number, view in enumerate(episode.views.values()):
        assert np.abs(view.frames.astype(int) - moving(LENGTH, SIZE[1], SIZE[0], number)).mean() < 6


def test_two_arms(tmp_path):
    columns = columns_of(("left_", "right_"))
    episode = read(tmp_path, columns, hands=("hand_left", "hand_right"))
    assert list(episode.views) == [HEAD, "images.rgb.hand_right", "images.rgb.hand_left"]
    assert episode.state.shape == (LENGTH, 16) and episode.state_names[8] == "right_joint_1"
    assert episode.state[0, 8] == 10 and episode.actions[0, 8] == 110


ROBOTS = {  # arms, joints of each, (height, width) of the head and of the hands
    "franka": ([""], 7, (360, 640), (480, 640)),
    "franka_robotiq": ([""], 7, (480, 640), (480, 640)),
    "genie1": (["left_", "right_"], 7, (360, 640), (480, 848)),
    "lift2": (["left_", "right_"], 6, (360, 640), (480, 640)),
    "split_aloha": (["left_", "right_"], 6, (360, 640), (480, 640)),
}


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_robot_at_its_own_sizes(tmp_path, robot):
    arms, joints, head, hand = ROBOTS[robot]
    cameras = {"head": head} | {f"hand_{arm}".strip("_"): hand for arm in arms}
    columns = {}
    for number, arm in enumerate(arms):
        for kind in ("states", "actions"):
            columns[f"{kind}.{arm}joint.position"] = np.full((2, joints), number, np.float32)
            columns[f"{kind}.{arm}gripper.position"] = np.full((2, 1 if joints == 6 else 2), 0.5 + number, np.float32)
        columns[f"states.{arm}gripper.pose"] = with_rotation(TOOL[:2])
        columns[f"states.{arm}ee_to_armbase_pose"] = columns[f"states.{arm}ee_to_robot_pose"] = with_rotation(TOOL[:2])
    for camera, (height, width) in cameras.items():
        columns[f"{camera}_camera_intrinsics"] = np.tile(np.float32([600, 600, width / 2, height / 2]), (2, 1))
        columns[f"{camera}_camera_to_robot_extrinsics"] = np.tile(np.float32(FACING), (2, 1))
    video = {f"images.rgb.{camera}": np.full((2, *size, 3), 90, np.uint8) for camera, size in cameras.items()}
    write_lerobot(tmp_path / robot, "v2.1", [{"task": "stack", "video": video, "columns": columns}], 30.0)
    (ref,) = READER.list_episodes(tmp_path)
    episode = READER.read(ref)
    hands = ["images.rgb.hand"] if len(arms) == 1 else ["images.rgb.hand_right", "images.rgb.hand_left"]
    assert list(episode.views) == [HEAD, *hands] and episode.wrist == hands[0]
    assert [episode.views[name].size[::-1] for name in (HEAD, *hands)] == [head, *[hand] * len(arms)]
    for view in episode.views.values():
        assert view.intrinsics is not None and view.intrinsics[0, 2] * 2 == view.size[0]
    assert episode.state.shape == episode.actions.shape == (2, len(arms) * (joints + 1))
    assert episode.state_names[joints] == f"{arms[0]}gripper" and episode.state[0, joints] == 0.5
    assert episode.state[0, -1] == 0.5 + len(arms) - 1 and episode.state_names[-1] == f"{arms[-1]}gripper"


def test_intrinsics_of_the_size_described_are_scaled_to_a_video_stored_smaller(tmp_path):
    columns = columns_of(intrinsics=(160.0, 164.0, 94.0, 66.0))
    video = {f"images.rgb.{name}": moving(LENGTH, SIZE[1], SIZE[0], i) for i, name in enumerate(("head", "hand"))}
    folder = write_lerobot(tmp_path / "set", "v2.1", [{"task": "a", "video": video, "columns": columns}], 30.0)
    info = folder / "meta" / "info.json"
    described = json.loads(info.read_text())
    described["features"][HEAD]["shape"] = [2 * SIZE[1], 2 * SIZE[0], 3]
    info.write_text(json.dumps(described))
    (ref,) = READER.list_episodes(tmp_path)
    episode = READER.read(ref)
    assert np.allclose(episode.views[HEAD].intrinsics, [[80, 0, 47], [0, 82, 33], [0, 0, 1]])
    assert episode.views[HEAD].intrinsics_source == "calibration columns, scaled from 192 x 128"
    assert episode.views["images.rgb.hand"].intrinsics is None, "its description says the stored size"


def test_intrinsics_are_fx_fy_cx_cy_of_the_stored_video(tmp_path):
    view = read(tmp_path, columns_of()).views[HEAD]
    assert np.allclose(view.intrinsics, [[80, 0, 47], [0, 82, 33], [0, 0, 1]])


def test_intrinsics_in_droids_order_are_refused(tmp_path):
    fx, fy, cx, cy = INTRINSICS
    episode = read(tmp_path, columns_of(intrinsics=(fx, cx, fy, cy)))
    assert episode.views[HEAD].intrinsics is None and episode.views[HEAD].world_from_camera is None
    assert "principal point" in episode.notes[f"calibration of {HEAD}"]


def test_the_pose_shows_the_tool_where_it_is(tmp_path):
    """Seen from the front, the robot's left (+y) is on the right of the picture and its up is up."""
    view = read(tmp_path, columns_of()).views[HEAD]
    assert view.fixed and view.world_from_camera.shape == (1, 4, 4)
    u, v, depth = project(
        transform(invert_pose(view.world_from_camera), TOOL + np.array([0, 0, 0.1])), view.intrinsics
    ).T
    assert np.allclose(depth, 1.5 - TOOL[:, 0])
    assert np.allclose(u, 47 + 80 * TOOL[:, 1] / depth)
    assert np.allclose(v, 33 - 82 * 0.1 / depth)


def test_the_hand_cameras_pose_in_the_head_cameras_column_is_refused(tmp_path):
    episode = read(tmp_path, columns_of(head=ON_HAND))
    view = episode.views[HEAD]
    assert (
        share_in_view(TOOL, view.intrinsics, np.stack([pose_from_quaternion(r[:3], r[3:]) for r in ON_HAND]), SIZE) == 1
    )
    assert view.world_from_camera is None and view.intrinsics is not None
    assert episode.notes[f"calibration of {HEAD}"] == "pose refused: it moves with the hand, so it is a hand camera's"


def test_a_hand_camera_may_move_with_the_hand(tmp_path):
    view = read(tmp_path, columns_of()).views["images.rgb.hand"]
    assert view.world_from_camera.shape == (LENGTH, 4, 4) and not view.fixed
    assert mounted_on(TOOL, view.world_from_camera)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ((1.5, 0.0, 0.2, 0.5, 0.5, 0.5, 0.5), "with it the tool would be in view in 0% of the frames"),
        ((-1.5, 0.0, 0.2, 0.5, -0.5, -0.5, 0.5), "with it the tool would be in view in 0% of the frames"),
        ((1.5, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0), "it is not x, y, z and a unit quaternion"),
        ((np.nan, 0.0, 0.2, 0.5, -0.5, -0.5, 0.5), "it is not x, y, z and a unit quaternion"),
    ],
)
def test_a_pose_that_does_not_show_the_tool_is_refused(tmp_path, head, says):
    episode = read(tmp_path, columns_of(head=head))
    assert episode.views[HEAD].world_from_camera is None
    assert episode.notes[f"calibration of {HEAD}"] == f"pose refused: {says}"


def test_a_pose_that_cannot_be_checked_is_not_believed(tmp_path):
    columns = columns_of()
    del columns["states.tcp_to_robot_pose"]
    assert "no pose of the tool" in read(tmp_path, columns).notes[f"calibration of {HEAD}"]


def test_one_arm_out_of_view_is_no_fault_of_the_camera(tmp_path):
    away = TOOL + np.array([0, 5, 0])
    columns = columns_of(("left_", "right_"), tools=(away, TOOL))
    view = read(tmp_path, columns, hands=("hand_left", "hand_right")).views[HEAD]
    assert view.world_from_camera is not None and view.fixed


def test_a_two_armed_robots_head_is_not_taken_for_fixed_without_a_pose(tmp_path):
    columns = columns_of(("left_", "right_"))
    for key in [key for key in columns if key.startswith("head")]:
        del columns[key]
    episode = read(tmp_path, columns, hands=("hand_left", "hand_right"))
    assert not episode.views[HEAD].fixed and episode.notes[f"calibration of {HEAD}"] == "no columns"


def test_a_folder_without_the_dataset_says_what_belongs_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no LeRobot folder or \*\.tar\.gz; put InternData-A1's archives"):
        next(READER.list_episodes(tmp_path))


def test_another_dataset_is_refused(tmp_path):
    episode = {"task": "x", "video": {HEAD: moving(3)}, "columns": {"states.joint.position": np.zeros((3, 7))}}
    write_lerobot(tmp_path / "set", "v2.1", [episode], 30.0)
    (problem,) = READER.list_episodes(tmp_path)
    assert isinstance(problem, UnreadableSource) and "states.gripper.position" in str(problem)


def test_the_licence_says_that_it_is_not_for_commerce():
    assert "non-commercial" in INFO.licence
