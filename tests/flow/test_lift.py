"""Laws of lifting tracks into the reference camera."""

import numpy as np
import pytest

from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.vision.lift import depth_edges, lift_tracks, sample_depth, to_reference
from schemas.cameras import Cameras, invert_pose, lift, project, transform
from schemas.perception import DepthMaps, Tracks2D
from schemas.scene_flow import keypoint_grid


def lifted(world: RigidWorld, reference: int, horizon: int):
    """Flow from the world's exact tracks and rendered depth, and the exact flow."""
    keypoints = keypoint_grid(*world.size)
    seen, visible = world.tracks(reference, keypoints, horizon)
    tracks = Tracks2D(reference, np.nan_to_num(seen[..., :2]), visible)
    depth = DepthMaps(world.depth(), "m", "rendered")
    cameras = Cameras(world.intrinsics, world.world_from_camera, world.size, True, "given", "given")
    return (
        lift_tracks(tracks, depth, depth_edges(depth.depth, 1e-9), cameras),
        world.flow(reference, keypoints, horizon),
    )


def test_flow_of_the_rigid_world_is_recovered_to_rounding_error():
    found, exact = lifted(moving_card(), reference=3, horizon=32)
    sure = found.flow.valid & ~found.edge
    moving = np.ptp(exact.uvz[..., 2], axis=1) > 0.01
    assert sure.mean() > 0.6 and sure[moving].sum() > 500
    np.testing.assert_allclose(found.flow.uvz[sure], exact.uvz[sure], atol=1e-9)


def test_moving_camera_over_a_still_scene_gives_zero_flow():
    world = moving_card()
    still = RigidWorld(
        world.intrinsics,
        world.size,
        world.world_from_camera,
        world.world_from_wall,
        np.tile(world.world_from_card[:1], (len(world), 1, 1)),
    )
    found, exact = lifted(still, reference=0, horizon=32)
    sure = found.flow.valid & ~found.edge
    increments, mask = found.flow.increments()
    both = mask & sure[:, 1:] & sure[:, :-1]
    assert both.sum() > 5000
    assert np.abs(increments[both]).max() < 1e-9
    np.testing.assert_allclose(exact.uvz, np.broadcast_to(exact.uvz[:, :1], exact.uvz.shape), atol=1e-12)


def test_rigid_motion_gives_exactly_that_motion():
    rng = np.random.default_rng(1)
    k = np.array([[200.0, 0, 64], [0, 200.0, 64], [0, 0, 1]])
    cameras = moving_card(frames=5).world_from_camera
    points = rng.uniform([-0.3, -0.3, 1], [0.3, 0.3, 2], size=(20, 3))
    shift = np.linspace(0, 1, 5)[:, None] * [0.1, -0.2, 0.05]
    world = points[:, None] + shift  # K S 3
    seen = project(transform(invert_pose(cameras), world), k)
    back = lift(to_reference(seen, k, cameras), k)
    in_world = transform(cameras[0], back)
    np.testing.assert_allclose(in_world - in_world[:, :1], np.broadcast_to(shift, world.shape), atol=1e-12)


def test_world_to_camera_poses_would_be_noticed():
    """The law of the still scene fails when poses are inverted: it does hold the convention."""
    world = moving_card()
    keypoints = keypoint_grid(*world.size)
    seen, _ = world.tracks(0, keypoints, 32)
    background = np.isfinite(seen).all((1, 2))
    right = to_reference(seen[background], world.intrinsics, world.world_from_camera[:33])
    wrong = to_reference(seen[background], world.intrinsics, invert_pose(world.world_from_camera[:33]))
    assert np.nanmedian(np.abs(wrong - wrong[:, :1])[:, -1]) > 100 * np.nanmedian(np.abs(right - right[:, :1])[:, -1])


def test_depth_on_a_slanted_plane_is_exact_between_pixels_and_is_no_edge():
    v, u = np.mgrid[0:40, 0:60] + 0.5
    depth = (1 / (0.4 + 0.004 * u - 0.003 * v))[None]
    edges = depth_edges(depth, 0.001)
    assert not edges.any()
    uv = np.random.default_rng(2).uniform([1, 1], [59, 39], size=(100, 1, 2))
    z, rough = sample_depth(depth, edges, np.array([0]), uv)
    np.testing.assert_allclose(z[:, 0], 1 / (0.4 + 0.004 * uv[:, 0, 0] - 0.003 * uv[:, 0, 1]), rtol=1e-12)
    assert not rough.any()


def test_depth_step_is_an_edge_and_keeps_the_nearest_pixels_depth():
    depth = np.full((1, 8, 8), 2.0)
    depth[:, :, 4:] = 1.0
    edges = depth_edges(depth, 0.05)
    np.testing.assert_array_equal(np.flatnonzero(edges[0, 3]), [3, 4])
    z, rough = sample_depth(depth, edges, np.array([0]), np.array([[[3.6, 3.5]], [[4.4, 3.5]], [[1.5, 3.5]]]))
    np.testing.assert_array_equal(z[:, 0], [2.0, 1.0, 2.0])
    np.testing.assert_array_equal(rough[:, 0], [True, True, False])


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_hole_in_the_depth_is_a_hole_and_never_a_number(hole):
    depth = np.full((1, 8, 8), 2.0)
    depth[0, 3, 3] = hole
    maps = DepthMaps(np.where(np.isfinite(depth), depth, np.nan), "m", "made")
    cameras = Cameras(np.eye(3), np.eye(4)[None], (8, 8), False, "given", "given")
    tracks = Tracks2D(0, np.array([[[3.5, 3.5]], [[6.5, 6.5]]]), np.ones((2, 1), bool))
    result = lift_tracks(tracks, maps, depth_edges(maps.depth, 0.05), cameras)
    np.testing.assert_array_equal(result.hole[:, 0], [True, False])
    np.testing.assert_array_equal(result.flow.valid[:, 0], [False, True])
    assert np.isfinite(result.flow.uvz).all()


def test_steps_after_the_end_are_not_valid():
    world = moving_card(frames=10)
    keypoints = keypoint_grid(*world.size)
    uv = np.repeat(keypoints[:, None], 9, axis=1)
    visible = np.ones(uv.shape[:2], bool)
    visible[:, 4:] = False
    cameras = Cameras(world.intrinsics, world.world_from_camera, world.size, True, "given", "given")
    depth = DepthMaps(world.depth(), "m", "rendered")
    result = lift_tracks(Tracks2D(6, uv, visible), depth, depth_edges(depth.depth, 0.02), cameras)
    assert result.flow.valid[:, :4].any() and not result.flow.valid[:, 4:].any()
