"""The synthetic world is right by itself: pictures, depth and tracks agree."""

import numpy as np

from pipeline.evaluation.synthetic_scene import moving_card
from schemas.cameras import invert_pose, project, transform
from schemas.scene_flow import keypoint_grid


def test_a_tracked_point_keeps_its_colour_in_the_rendered_pictures():
    world = moving_card(frames=20, size=(320, 240))
    keypoints = keypoint_grid(*world.size)
    seen, visible = world.tracks(0, keypoints, 19)
    first, last = world.render(0)[0].astype(float), world.render(19)[0].astype(float)
    rows = visible[:, 19]
    start, end = keypoints[rows].astype(int), seen[rows, 19, :2].astype(int)
    difference = np.abs(first[start[:, 1], start[:, 0]] - last[end[:, 1], end[:, 0]]).mean(1)
    assert rows.sum() > 150
    assert np.median(difference) < 5 and np.mean(difference > 40) < 0.03


def test_depth_of_a_visible_track_is_the_rendered_depth():
    world = moving_card(frames=20)
    seen, visible = world.tracks(0, keypoint_grid(*world.size), 19)
    depth = world.render(19)[1]
    u, v = seen[visible[:, 19], 19, :2].astype(int).T
    difference = np.abs(depth[v, u] - seen[visible[:, 19], 19, 2])
    assert np.median(difference) < 0.005


def test_flow_at_the_reference_frame_is_the_keypoint_itself():
    world = moving_card()
    keypoints = keypoint_grid(*world.size)
    flow = world.flow(5, keypoints, 8)
    np.testing.assert_allclose(flow.uvz[:, 0, :2] * world.size, keypoints, atol=1e-9)


def test_card_points_move_as_the_card_does():
    world = moving_card()
    corner = np.array([0.05, 0.05, 0.0])
    path = np.stack([transform(pose, corner) for pose in world.world_from_card])
    inverse = invert_pose(world.world_from_camera)
    start = project(transform(inverse[0], path[0]), world.intrinsics)
    flow = world.flow(0, start[None, :2], 32)
    expected = np.stack([project(transform(inverse[0], p), world.intrinsics) for p in path[:33]]) / [*world.size, 1]
    np.testing.assert_allclose(flow.uvz[0], expected, atol=1e-9)
