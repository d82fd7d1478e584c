"""Camera solvers: what they give, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.cameras import recorded, static
from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from schemas.cameras import intrinsics_from_fov
from schemas.episode import BadEpisode, CameraKind, CameraView
from schemas.perception import DepthMaps

WORLD = moving_card(frames=6, size=(64, 48))
DEPTH = DepthMaps(np.ones((6, 48, 64)), "m", "made")


def view(**changes) -> CameraView:
    given = {
        "name": "camera",
        "read_frames": WORLD.frames,
        "length": 6,
        "size": WORLD.size,
        "intrinsics": WORLD.intrinsics,
        "world_from_camera": WORLD.world_from_camera,
    }
    return CameraView(**{**given, **changes})


def test_recorded_poses_are_handed_on_and_motion_is_noticed():
    moving = recorded.build(recorded.Config()).solve(view(), DEPTH)
    np.testing.assert_array_equal(moving.world_from_camera, WORLD.world_from_camera)
    assert moving.moving
    still = recorded.build(recorded.Config()).solve(view(world_from_camera=WORLD.world_from_camera[:1]), DEPTH)
    assert not still.moving and still.world_from_camera.shape == (6, 4, 4)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"world_from_camera": None}, "no_camera_poses"),
        ({"intrinsics": None}, "no_camera_poses"),
        ({"world_from_camera": WORLD.world_from_camera[:3]}, "bad_camera_poses"),
        ({"world_from_camera": 2 * WORLD.world_from_camera}, "bad_camera_poses"),
        ({"world_from_camera": np.full((6, 4, 4), np.nan)}, "bad_camera_poses"),
        ({"world_from_camera": WORLD.world_from_camera * [-1, 1, 1, 1]}, "bad_camera_poses"),
    ],
)
def test_poses_that_are_missing_or_no_poses_are_refused(changes, code):
    with pytest.raises(BadEpisode) as error:
        recorded.build(recorded.Config()).solve(view(**changes), DEPTH)
    assert error.value.code == code


def test_static_refuses_a_camera_that_moves():
    with pytest.raises(BadEpisode, match="moves"):
        static.build(static.Config()).solve(view(fixed=False), DEPTH)


def stillness(world: RigidWorld, frames: np.ndarray | None = None) -> str:
    """What ``static`` says of a world whose camera is said to be fixed."""
    depth = DepthMaps(world.depth(), "m", "made")
    pictures = world.frames() if frames is None else frames
    given = view(read_frames=lambda: pictures, length=len(world), size=world.size, fixed=True)
    return static.build(static.Config()).solve(given, depth).pose_source


def test_static_checks_that_the_camera_stands_still():
    assert stillness(moving_card(frames=12, size=(160, 120), camera_moves=False)).startswith("static, checked")
    with pytest.raises(BadEpisode, match=r"at least [0-9.]+ px, more than the 1.0 px that static.max_motion") as error:
        stillness(moving_card(frames=12, size=(160, 120)))
    assert error.value.code == "moving_camera"


def test_a_camera_that_is_knocked_and_stands_again_is_found_out():
    world = moving_card(frames=60, size=(160, 120), camera_moves=False)
    knocked = world.frames()
    knocked[33:35] = np.roll(knocked[33:35], 4, axis=2)  # between the frames that are looked at in any case
    with pytest.raises(BadEpisode, match="from frame 0 to frame 33"):
        stillness(world, knocked)


def test_a_thing_that_fills_most_of_the_picture_and_moves_is_no_camera_motion():
    world = moving_card(frames=12, size=(160, 120), camera_moves=False)
    slide = np.tile(np.eye(4), (12, 1, 1))
    slide[:, :3, 3] = np.linspace([0, 0.02, 0.45], [0.04, 0.0, 0.45], 12)
    near = replace(world, world_from_card=slide, half_side=0.19)
    assert near.render(0)[1].min() < 0.5 and np.mean(near.render(0)[1] < 0.5) > 0.5
    assert stillness(near).startswith("static, checked")


def test_a_thing_that_is_carried_along_does_not_hide_that_the_camera_moves():
    world = moving_card(frames=12, size=(160, 120))
    carried = np.eye(4)
    carried[:3, 3] = [0.03, 0.05, 0.3]
    with pytest.raises(BadEpisode, match="the background moved"):
        stillness(replace(world, world_from_card=world.world_from_camera @ carried, half_side=0.08))


def test_light_that_changes_is_no_motion_and_a_bare_picture_is_not_judged():
    world = moving_card(frames=12, size=(160, 120), camera_moves=False)
    gain = np.linspace(1, 0.5, 12)[:, None, None, None]
    dimmed = (world.frames() * gain + 20 * (1 - gain)).astype(np.uint8)
    assert stillness(world, dimmed).startswith("static, checked")
    assert stillness(world, np.full_like(dimmed, 90)).startswith("static, too bare to be checked")


@pytest.mark.parametrize(
    ("option", "says"), [({"fov_y": 190}, "static.fov_y"), ({"max_motion": 0}, "static.max_motion")]
)
def test_static_refuses_nonsense_with_the_field_named(option, says):
    with pytest.raises(ValueError, match=says):
        static.Config(**option)


def test_without_intrinsics_the_kind_of_camera_serves_and_it_is_said():
    kind = CameraKind("RealSense D435", 43.0, 640 / 480)
    unknown = view(intrinsics=None, kind=kind, size=(256, 256), fixed=True)
    k = static.build(static.Config(max_motion=None)).solve(unknown, DEPTH)
    whole = intrinsics_from_fov(43.0, 640, 480)
    np.testing.assert_allclose(k.intrinsics, np.diag([256 / 640, 256 / 480, 1]) @ whole)  # squashed
    assert "typical of a RealSense D435" in k.intrinsics_source and "not measured" in k.intrinsics_source
    given = static.build(static.Config(fov_y=60.0, max_motion=None)).solve(unknown, DEPTH)
    assert "as configured" in given.intrinsics_source
    with pytest.raises(BadEpisode, match="no intrinsics"):
        static.build(static.Config(max_motion=None)).solve(replace(unknown, kind=None), DEPTH)
