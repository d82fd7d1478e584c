"""Points on a robot go where its joints take them."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fixtures import arm

if find_spec("mujoco") is None:  # importing it here would choose how it draws
    pytest.skip("the extra sim is not installed", allow_module_level=True)

from pipeline.episodes.chunks import EpisodeChunk
from pipeline.episodes.slicing import take_frames
from pipeline.flow_sources import Scene, tracked
from pipeline.flow_sources._arm_motion import ArmMotion
from pipeline.recipe import QualityConfig, Recipe
from pipeline.robots.description import BadDescription, RobotDescription
from pipeline.robots.surfaces import SPACING, sampled
from pipeline.timing import Stopwatch
from pipeline.vision.lift import LiftedTracks
from pipeline.windows.quality import evaluate
from schemas.cameras import Cameras, invert_pose, lift, project, transform
from schemas.episode import BadEpisode, Episode, RecordedDepth, RobotJoints
from schemas.perception import DepthMaps
from schemas.plugins import PluginChoice
from schemas.scene_flow import PointFlag, SceneFlow, keypoint_grid

UPPER, LOWER = 1, 2


@pytest.fixture
def robot(tmp_path) -> RobotDescription:
    return RobotDescription(arm.write_description(tmp_path))


def cameras() -> Cameras:
    poses = np.broadcast_to(np.eye(4), (arm.FRAMES, 4, 4))  # as the solver static says: its own world
    return Cameras(arm.INTRINSICS, poses, (arm.SIZE, arm.SIZE), False, "", "")


def window(depth: np.ndarray, uv: np.ndarray) -> LiftedTracks:
    """Points that a tracker says stand still at uv."""
    z = depth[0][uv[:, 1].astype(int), uv[:, 0].astype(int)]
    start = np.concatenate([uv, z[:, None]], axis=1) / [arm.SIZE, arm.SIZE, 1]
    seen = np.ones((len(uv), arm.FRAMES), bool)
    flow = SceneFlow(np.repeat(start[:, None], arm.FRAMES, axis=1), seen, seen)
    return LiftedTracks(flow, ~seen, ~seen, carried=~seen)


def motion_of(robot: RobotDescription, depth: np.ndarray, touch: float = 0.01) -> ArmMotion:
    return ArmMotion(robot, arm.episode(recorded=arm.joints()), DepthMaps(depth, "m", ""), cameras(), touch, 0.01)


def seen_with(depth: np.ndarray) -> Episode:
    """The arm's episode with recorded depth."""
    whole = arm.episode(recorded=arm.joints())
    recorded = RecordedDepth(lambda: depth, "m", "", lambda frames: depth[frames])
    return replace(whole, views={"camera": replace(whole.views["camera"], depth=recorded)})


def in_image(world: np.ndarray) -> np.ndarray:
    return project(transform(invert_pose(arm.CAMERA), world), arm.INTRINSICS)


def on_link(share: float, link: int, frame: int = 0) -> np.ndarray:
    """The top of the arm at a share of a link's length, world, by the textbook's formula."""
    elbow, tip = arm.elbow_and_tip(arm.angles())[frame]
    begin = np.array([0, 0, arm.HEIGHT]) if link == UPPER else elbow
    end = elbow if link == UPPER else tip
    return transform(arm.BASE, begin + share * (end - begin) + [0, 0, 0.01])


def test_links_are_where_the_textbook_says(robot):
    moving = robot.moving(arm.joints())
    wanted = transform(arm.BASE, arm.elbow_and_tip(arm.angles()))
    assert robot.links[1:] == ("upper", "lower") and robot.joints == ("two_joint1", "two_joint2")
    assert np.allclose(moving.world_from_link[:, LOWER, :3, 3], wanted[:, 0])
    tip = transform(moving.world_from_link[:, LOWER], np.array([arm.LENGTH, 0, 0]))
    assert np.allclose(tip, wanted[:, 1])


def test_a_point_on_a_link_goes_with_it_and_its_tracker_is_not_asked(robot):
    uv = np.array([in_image(on_link(0.5, UPPER))[:2], in_image(on_link(0.8, LOWER))[:2], [10.0, 10.0]])
    depth = arm.depth_of(robot)
    motion = motion_of(robot, depth)
    lifted = window(depth, uv)
    found = motion.on(0, lifted)
    assert found.point.tolist() == [0, 1]
    assert [part.own.tolist() for part in found.bodies] == [[0], [1]]  # an end, and what carries it
    put = found.put(lifted)
    for row, (share, link) in enumerate(((0.5, UPPER), (0.8, LOWER))):
        wanted = np.array([in_image(on_link(share, link, frame)) for frame in range(arm.FRAMES)])
        assert np.abs(put.flow.uvz[row] * [arm.SIZE, arm.SIZE, 1] - wanted).max() < 0.15  # px, and m
        assert put.flow.valid[row].all() and put.flow.visible[row].all()
    assert np.array_equal(put.flow.uvz[2], lifted.flow.uvz[2]) and put.joints.tolist() == [True, True, False]
    judged = evaluate(put, arm.FRAMES - 1, 10.0, arm.INTRINSICS, (arm.SIZE, arm.SIZE), QualityConfig())
    assert [bool(flag & PointFlag.JOINTS) for flag in judged.point_flags] == [True, True, False]


def test_links_move_as_bodies_in_the_reference_camera(robot):
    uv = np.array([in_image(on_link(0.8, LOWER, 2))[:2]])
    depth = arm.depth_of(robot)
    motion = motion_of(robot, depth)
    lifted = window(np.roll(depth, -2, axis=0), uv)
    (part,) = motion.on(2, lifted).bodies
    assert part.own.tolist() == [0]
    start = lift(lifted.flow.uvz[:, 0] * [arm.SIZE, arm.SIZE, 1], arm.INTRINSICS)
    carried = part.body.carry(start, np.zeros(1, int))[0, : arm.FRAMES - 2]
    wanted = [transform(invert_pose(arm.CAMERA), on_link(0.8, LOWER, frame)) for frame in range(2, arm.FRAMES)]
    assert np.abs(carried - wanted).max() < 0.006  # half a pixel of where the point was asked for


def test_a_hidden_point_on_the_robot_is_known_and_not_visible(robot):
    """A board hangs over the end of the lower link's way."""
    x, y = on_link(0.8, LOWER, arm.FRAMES - 1)[:2] * (1.1 / 1.39)  # on the line from the camera, at its height
    board = np.stack(np.meshgrid(x + np.linspace(-0.02, 0.02, 40), y + np.linspace(-0.02, 0.02, 40), [0.4]), -1)
    depth = arm.depth_of(robot, board.reshape(-1, 3))
    uv = np.array([in_image(on_link(0.8, LOWER))[:2]])
    motion = motion_of(robot, depth)
    put = motion.on(0, window(depth, uv)).put(window(depth, uv))
    assert put.flow.valid[0].all() and put.flow.visible[0, 0] and not put.flow.visible[0, -1]


def plate_beside_the_arm() -> tuple[np.ndarray, np.ndarray]:
    """A plate beside the lower link, as high as it is, and a place on it."""
    along = on_link(0.9, LOWER) - on_link(0.8, LOWER)
    across = np.array([-along[1], along[0], 0]) / np.linalg.norm(along[:2])
    beside = on_link(0.9, LOWER) - 0.065 * across  # the link turns the other way
    grid = np.stack(np.meshgrid(np.linspace(-0.02, 0.02, 60), np.linspace(-0.01, 0.03, 60)), -1).reshape(-1, 2)
    return beside + grid[:, :1] * along / np.linalg.norm(along) - grid[:, 1:] * across, beside


def test_a_thing_that_touches_the_robot_and_stays_is_not_on_it(robot):
    """The plate stays when the link leaves."""
    plate, beside = plate_beside_the_arm()
    depth = arm.depth_of(robot, plate)
    uv = np.array([in_image(beside)[:2]])
    motion = motion_of(robot, depth, 0.03)
    lifted = window(depth, uv)
    link, apart = robot.moving(arm.joints()).nearest(beside[None], 0, 0.03)
    assert link.tolist() == [LOWER] and apart[0] < 0.03
    assert not len(motion.on(0, lifted).point)


def test_where_the_robot_leaves_a_thing_at_the_very_end_the_label_is_missing_and_not_wrong(robot, monkeypatch):
    """One frame is too little to say that the plate is no part of the robot."""
    moved = arm.angles()
    moved[:-1] = moved[0]
    monkeypatch.setattr(arm, "angles", lambda: moved)
    plate, beside = plate_beside_the_arm()
    depth = arm.depth_of(robot, plate)
    motion = motion_of(robot, depth, 0.03)
    found = motion.on(0, window(depth, np.array([in_image(beside)[:2]])))
    assert found.valid.tolist() == [[True] * (arm.FRAMES - 1) + [False]]


def test_links_whose_joints_were_not_recorded_hold_nothing(robot):
    moving = robot.moving(RobotJoints(("joint1",), arm.angles()[:, :1], arm.BASE))
    points = np.array([on_link(0.5, UPPER), on_link(0.9, LOWER)])
    assert moving.nearest(points, 0, 0.02)[0].tolist() == [UPPER, -1]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"recorded": None}, "no_joints", "build it without arm=joints"),
        ({"recorded": arm.joints(("knee", "hip"))}, "other_robot", "they describe different robots"),
        ({"pose": None, "recorded": arm.joints()}, "no_camera_pose", "or with its calibration"),
    ],
)
def test_an_episode_that_does_not_tell_is_refused(robot, change, code, said):
    depth = DepthMaps(np.ones((arm.FRAMES, arm.SIZE, arm.SIZE), np.float32), "m", "")
    with pytest.raises(BadEpisode, match=said) as refused:
        ArmMotion(robot, arm.episode(**change), depth, cameras(), 0.01, 0.01)
    assert refused.value.code == code


@pytest.mark.parametrize("base", [[0.0, 0.0, 0.3], [0.15, 0.0, 0.0]])
def test_a_robot_that_depth_does_not_show_is_refused(robot, base):
    """It stands elsewhere: higher, or beside."""
    moved = arm.BASE.copy()
    moved[:3, 3] += base
    recorded = RobotJoints(("joint1", "joint2"), arm.angles(), moved)
    with pytest.raises(BadEpisode, match=r"depth shows \d+% where it should be: another description") as refused:
        ArmMotion(robot, arm.episode(recorded=recorded), DepthMaps(arm.depth_of(robot), "m", ""), cameras(), 0.01, 0.01)
    assert refused.value.code == "other_robot"


def test_relative_depth_is_refused(robot):
    depth = DepthMaps(np.ones((arm.FRAMES, arm.SIZE, arm.SIZE), np.float32), "relative", "")
    with pytest.raises(BadEpisode, match="needs depth in metres"):
        ArmMotion(robot, arm.episode(recorded=arm.joints()), depth, cameras(), 0.01, 0.01)


def test_a_build_of_part_of_an_episode_uses_the_joints_of_that_part(tmp_path, robot):
    """Whole, through the flow source: pictures that never change hold no track of what moves."""
    depth = arm.depth_of(robot)
    part = take_frames(seen_with(depth), np.arange(3, arm.FRAMES))
    source = tracked.build(tracked.Config(arm="joints", robot=str(tmp_path / "two.urdf")))
    keypoints = keypoint_grid(arm.SIZE, arm.SIZE)
    flow = source.follow(Scene(part), [0], keypoints, 4, QualityConfig().depth_edge, Stopwatch())
    ((_, lifted),) = flow.windows
    assert flow.name == "lk+joints" and 5 < lifted.joints.sum() < 60
    moving = robot.moving(arm.joints())
    start = lifted.flow.uvz[:, 0] * [arm.SIZE, arm.SIZE, 1]
    world = transform(arm.CAMERA, lift(start, arm.INTRINSICS))
    link, _ = moving.nearest(world, 3, 0.01)
    rows = np.flatnonzero(lifted.joints)
    wanted = in_image(moving.carried(world[rows], link[rows], np.arange(3, 8)))
    assert np.allclose(lifted.flow.uvz[rows] * [arm.SIZE, arm.SIZE, 1], wanted, atol=1e-4)


def test_the_robot_is_looked_for_in_the_whole_episode_and_not_in_its_chunks(tmp_path, robot):
    """In its last frames it is not where it should be."""
    depth = arm.depth_of(robot)
    depth[8:] += 0.3
    whole = seen_with(depth)
    source = tracked.build(tracked.Config(arm="joints", robot=str(tmp_path / "two.urdf")))
    keypoints = keypoint_grid(arm.SIZE, arm.SIZE)
    for chunked, chunk in ((False, EpisodeChunk(0, 10, (0,))), (True, EpisodeChunk(8, 10, (0,)))):
        scene = source.observe(whole, chunked, Stopwatch()).slice(chunk)
        assert list(source.follow(scene, [0], keypoints, 1, QualityConfig().depth_edge, Stopwatch()).windows)
    depth[2:] = depth[8:9]
    with pytest.raises(BadEpisode, match="where it should be"):
        source.observe(whole, True, Stopwatch())


def test_points_cover_triangles_evenly_and_reach_their_corners():
    corners = np.array([[[0, 0, 0], [0.1, 0, 0], [0, 0.2, 0]]])
    points = sampled(corners, SPACING)
    assert 0.95 < len(points) / (0.01 / SPACING**2) < 1.05
    assert all((points == corner).all(axis=1).any() for corner in corners[0])
    assert (points >= 0).all() and (points[:, 0] / 0.1 + points[:, 1] / 0.2 <= 1 + 1e-9).all()
    assert abs((points[:, 0] < 0.05).mean() - 0.75) < 0.03


ROUND = """<robot name="r"><link name="base"/><link name="a"><collision><geometry>{}</geometry></collision>
  <inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="joint1" type="continuous"><parent link="base"/><child link="a"/><axis xyz="0 0 1"/></joint></robot>"""


@pytest.mark.parametrize(
    ("shape", "off"),
    [
        ('<sphere radius="0.1"/>', lambda p: np.linalg.norm(p, axis=1) - 0.1),
        (
            '<cylinder radius="0.1" length="0.4"/>',
            lambda p: np.maximum(np.hypot(p[:, 0], p[:, 1]) - 0.1, abs(p[:, 2]) - 0.2),
        ),
        ('<box size="0.2 0.4 0.6"/>', lambda p: (abs(p) - [0.1, 0.2, 0.3]).max(axis=1)),
    ],
)
def test_points_lie_on_the_shapes_of_a_description(tmp_path, shape, off):
    robot = RobotDescription(arm.write_description(tmp_path, ROUND.format(shape)))
    points = robot.surfaces[1]
    assert len(points) > 1000 and np.abs(off(points)).max() < 0.0015  # round ones have corners


def test_a_mesh_is_found_in_its_package(tmp_path):
    """A tetrahedron, in the folders of a ROS package."""
    package = tmp_path / "two_description"
    (package / "meshes").mkdir(parents=True)
    (package / "urdf").mkdir()
    (package / "meshes" / "a.obj").write_text(
        "v 0 0 0\nv .1 0 0\nv 0 .1 0\nv 0 0 .1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
    )
    mesh = '<mesh filename="package://two_description/meshes/a.obj"/>'
    path = arm.write_description(package / "urdf", ROUND.format(mesh))
    points = RobotDescription(path).surfaces[1]
    low, high = points.min(axis=0), points.max(axis=0)
    assert np.allclose(low, 0, atol=1e-6) and np.allclose(high, 0.1, atol=1e-6)
    (package / "meshes" / "a.obj").unlink()
    with pytest.raises(BadDescription, match=r"meshes/a.obj, which is not here"):
        RobotDescription(path)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ('<collision><geometry><box size="100 400 600"/></geometry></collision>', "is it in millimetres"),
        ('<visual><geometry><box size="1 1 1"/></geometry></visual>', "no shapes for collisions"),
    ],
)
def test_a_robot_without_usable_shapes_is_refused(tmp_path, shape, said):
    text = ROUND.replace("<collision><geometry>{}</geometry></collision>", shape)
    with pytest.raises(BadDescription, match=said):
        RobotDescription(arm.write_description(tmp_path, text))


def test_a_description_is_read_where_mujoco_cannot_draw(tmp_path):
    """Such as without libosmesa6; here by a way to draw that does not exist."""
    path = arm.write_description(tmp_path)
    asked = f"import pathlib; from pipeline.robots.description import *; RobotDescription(pathlib.Path({str(path)!r}))"
    environment = {**os.environ, "MUJOCO_GL": "nonsense"}
    subprocess.run([sys.executable, "-c", asked], check=True, env=environment, cwd=Path(__file__).parents[2])


def test_meshes_of_the_same_name_in_two_folders_are_two(tmp_path):
    """And the file of a plug-in for a simulator is no mesh."""
    for folder, size in (("small", 0.1), ("large", 0.2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.obj").write_text(
            f"v 0 0 0\nv {size} 0 0\nv 0 {size} 0\nv 0 0 {size}\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n"
        )
    path = arm.write_description(
        tmp_path,
        arm.URDF.replace('<box size="0.3 0.08 0.02"/>', '<mesh filename="small/a.obj"/>', 1)
        .replace('<box size="0.3 0.08 0.02"/>', '<mesh filename="large/a.obj"/>')
        .replace("</robot>", '<gazebo><plugin name="p" filename="libgazebo_ros_control.so"/></gazebo></robot>'),
    )
    high = [points.max(axis=0) for points in RobotDescription(path).surfaces[1:]]
    assert np.allclose(high, [[0.25, 0.1, 0.1], [0.35, 0.2, 0.2]], atol=1e-6)


@pytest.mark.parametrize("text", ["no xml", "<robot", "<mujoco><nonsense/></mujoco>"])
def test_a_file_that_describes_no_robot_is_refused(tmp_path, text):
    with pytest.raises(BadDescription, match="no description"):
        RobotDescription(arm.write_description(tmp_path, text))


def test_options_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="arm=joints needs robot=FILE"):
        tracked.Config(arm="joints")
    with pytest.raises(ValueError, match="arm=joints needs robot=FILE"):
        tracked.Config(arm="joints", robot=str(tmp_path / "absent.urdf"))
    with pytest.raises(ValueError, match="no effect without arm=joints"):
        tracked.Config(robot=str(tmp_path / "two.urdf"))
    with pytest.raises(ValueError, match="no description"):
        tracked.build(tracked.Config(arm="joints", robot=str(arm.write_description(tmp_path, "no xml"))))


def test_another_description_is_another_recipe(tmp_path):
    """Also in a file of the same name: labels made with the other are not taken for these."""
    choice = PluginChoice("tracked", {"arm": "joints", "robot": str(arm.write_description(tmp_path))})
    assert choice.spelled("pipeline.flow_sources") == "tracked:arm=joints,robot=two.urdf"
    first = Recipe(PluginChoice("libero"), flow=choice).as_dict()
    arm.write_description(tmp_path, arm.URDF.replace("0.1", "0.2", 1))
    assert Recipe(PluginChoice("libero"), flow=choice).as_dict() != first
