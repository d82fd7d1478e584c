"""Scene flow's own definitions."""

import numpy as np
import pytest

from schemas.cameras import flipped_intrinsics, intrinsics_from_fov, lift
from schemas.orientation import FLIPS
from schemas.scene_flow import MOVES, PointFlag, SceneFlow, flag_names, keypoint_grid, moving_points


def test_keypoints_are_pixel_centres_row_by_row_and_near_uniform():
    grid = keypoint_grid(128, 96)
    assert grid.shape == (400, 2)
    np.testing.assert_array_equal(grid % 1, 0.5)
    np.testing.assert_array_equal(grid[:2], [[3.5, 2.5], [9.5, 2.5]])
    uniform = (np.arange(20) + 0.5) / 20
    assert np.abs(grid.reshape(20, 20, 2)[0, :, 0] - uniform * 128).max() <= 0.5
    assert np.abs(grid.reshape(20, 20, 2)[:, 0, 1] - uniform * 96).max() <= 0.5


def test_keypoints_equal_those_of_the_simulators_exact_flow():
    truth = np.load(next((__import__("pathlib").Path(__file__).parents[2] / "data" / "libero").rglob("*_gt.npz")))
    np.testing.assert_array_equal(keypoint_grid(128, 128), truth["uv0"])


@pytest.mark.parametrize(
    ("orientation", "signs", "order"),
    [
        ("mirrored", [-1, 1, 1], [2, 1, 0, 5, 4, 3, 8, 7, 6]),
        ("upside-down", [1, -1, 1], [6, 7, 8, 3, 4, 5, 0, 1, 2]),
        ("rotated-180", [-1, -1, 1], [8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ],
)
def test_flow_in_a_flipped_image_is_the_flow_of_the_flipped_scene(orientation, signs, order):
    """Lifted with each image's own intrinsics, the same points in space: x or y changes its sign."""
    rng = np.random.default_rng(0)
    size, intrinsics = (64, 48), intrinsics_from_fov(50, 64, 48)
    intrinsics[:2, 2] += [3, -2]
    uvz = rng.uniform(0.1, 0.9, (9, 4, 3))
    valid = rng.random((9, 4)) > 0.2
    flips = FLIPS[orientation]
    turned = SceneFlow(uvz, valid, valid).flipped(*flips)
    xyz = lift(uvz * [*size, 1], intrinsics)
    again = lift(turned.uvz * [*size, 1], flipped_intrinsics(intrinsics, size, *flips))
    np.testing.assert_allclose(again, (xyz * signs)[order])
    np.testing.assert_array_equal(turned.valid, valid[order])
    np.testing.assert_allclose(turned.flipped(*flips).uvz, uvz)
    increments, mask = SceneFlow(uvz, valid, valid).increments()
    seen, seen_mask = turned.increments()
    np.testing.assert_allclose(seen, (increments * signs)[order])
    np.testing.assert_array_equal(seen_mask, mask[order])


def test_increments_sum_to_the_displacement_and_are_masked_at_both_ends():
    rng = np.random.default_rng(0)
    uvz = rng.normal(size=(5, 9, 3))
    valid = np.ones((5, 9), bool)
    valid[2, 4] = False
    increments, mask = SceneFlow(uvz, valid, valid).increments()
    np.testing.assert_allclose(increments[0].sum(0), uvz[0, -1] - uvz[0, 0])
    np.testing.assert_array_equal(np.flatnonzero(~mask[2]), [3, 4])
    assert (increments[2, [3, 4]] == 0).all() and mask[[0, 1, 3, 4]].all()


def test_hidden_points_are_masked_when_only_seen_ones_are_asked_for():
    valid, visible = np.ones((3, 5), bool), np.ones((3, 5), bool)
    visible[1, 2] = False
    flow = SceneFlow(np.random.default_rng(0).normal(size=(3, 5, 3)), visible, valid)
    assert flow.increments()[1].all()
    increments, mask = flow.increments(seen_only=True)
    np.testing.assert_array_equal(np.argwhere(~mask), [[1, 1], [1, 2]])
    assert (increments[1, 1:3] == 0).all()


def test_flags_are_counted_by_name():
    flags = np.array([0, PointFlag.STATIC, PointFlag.STATIC | PointFlag.JUMP], np.uint8)
    others = dict.fromkeys(("lost", "depth_hole", "depth_edge", "carried", "joints"), 0)
    assert flag_names(flags) == {"static": 2, "jump": 1, **others}


def test_a_point_moves_where_a_usable_step_is_beyond_the_threshold():
    xyz = np.zeros((4, 3, 3))
    xyz[1, 1, 2] = 1.01 * MOVES  # there and back again
    xyz[2, 2, 0] = 0.99 * MOVES
    xyz[3, 2, 0] = 1.01 * MOVES  # where its position is not known
    usable = np.ones((4, 3), bool)
    usable[3, 2] = False
    assert moving_points(xyz, usable).tolist() == [False, True, False, False]
