"""Laws of camera geometry, with OpenCV as the independent reference."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.cameras import intrinsics_from_fov, invert_pose, lift, pose_from_mujoco, project, transform

RNG = np.random.default_rng(0)
K = np.array([[310.0, 0, 130.5], [0, 290.0, 120.25], [0, 0, 1]])


def random_pose(rng=RNG) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(rng.normal(size=3))[0]
    pose[:3, 3] = rng.normal(size=3)
    return pose


@given(st.floats(0, 256), st.floats(0, 256), st.floats(0.01, 100))
def test_project_undoes_lift(u, v, z):
    point = np.array([[u, v, z]])
    np.testing.assert_allclose(project(lift(point, K), K), point, atol=1e-9)


def test_project_agrees_with_opencv():
    pose, points = random_pose(), RNG.normal(size=(50, 3))
    in_camera = transform(invert_pose(pose), points)
    front = in_camera[:, 2] > 0
    assert front.any()
    camera_from_world = np.linalg.inv(pose)
    expected, _ = cv2.projectPoints(
        points[front], cv2.Rodrigues(camera_from_world[:3, :3])[0], camera_from_world[:3, 3], K, None
    )
    np.testing.assert_allclose(project(in_camera, K)[front, :2], expected[:, 0], rtol=1e-9)


def test_points_behind_the_camera_are_nan():
    assert np.isnan(project(np.array([[0.0, 0.0, -1.0], [1.0, 2.0, 0.0]]), K)).all()


def test_invert_pose_is_the_matrix_inverse_for_stacks():
    poses = np.stack([random_pose() for _ in range(5)])
    np.testing.assert_allclose(invert_pose(poses), np.linalg.inv(poses), atol=1e-12)


def test_transform_broadcasts_one_pose_per_step():
    poses, xyz = np.stack([random_pose() for _ in range(4)]), RNG.normal(size=(7, 4, 3))
    moved = transform(poses, xyz)
    for step in range(4):
        expected = (poses[step] @ np.c_[xyz[:, step], np.ones(7)].T).T[:, :3]
        np.testing.assert_allclose(moved[:, step], expected, atol=1e-12)


def test_field_of_view_spans_the_image():
    k = intrinsics_from_fov(45, 256, 256)
    assert k[0, 0] == pytest.approx(309.02, abs=0.005)  # LIBERO's agent view, as its users know it
    top = lift(np.array([128.0, 0.0, 1.0]), k)
    assert np.degrees(np.arctan2(-top[1], top[2])) == pytest.approx(22.5)


def test_field_of_view_must_be_an_angle():
    with pytest.raises(ValueError, match="between 0 and 180"):
        intrinsics_from_fov(0, 64, 64)


def test_mujoco_camera_looks_along_its_negative_z():
    pose = pose_from_mujoco(np.array([1.0, 2.0, 3.0]), np.array([1.0, 0, 0, 0]))
    ahead = transform(pose, np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(ahead, [1, 2, 2], atol=1e-12)
    down = transform(pose, np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(down, [1, 1, 3], atol=1e-12)
