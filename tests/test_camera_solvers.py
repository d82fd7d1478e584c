"""Camera solvers: what they give, and what they refuse."""

import numpy as np
import pytest

from pipeline.cameras import recorded, static
from pipeline.rigid_world import moving_card
from schemas.episode import BadEpisode, CameraView
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
