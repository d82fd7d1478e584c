"""Where scripted controllers take things, from points alone."""

import numpy as np
import pytest

from lamp_model.closed_loop.simulation.scripted.grasps import (
    OPENING,
    REACH_DOWN,
    clearance,
    narrowest_grasp,
    plan_grasp,
    turn,
)
from lamp_model.closed_loop.simulation.scripted.pick_place import BESIDE, highest_between
from lamp_model.closed_loop.simulation.scripted.shapes import body_tree, box_points, cylinder_points

NOTHING = np.zeros((0, 3))


def at(points: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    return points + np.array([x, y, z])


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


def test_points_of_a_box_lie_on_it_and_reach_its_corners():
    half = np.array([0.03, 0.02, 0.05])
    points = box_points(half)
    assert np.allclose(abs(points).max(axis=0), half)
    assert np.isclose(abs(points) / half, 1).any(axis=1).all()


def test_points_of_a_cylinder_have_its_radius():
    points = cylinder_points(0.04, 0.06)
    assert np.allclose(np.hypot(points[:, 0], points[:, 1]), 0.04)
    assert np.isclose(abs(points[:, 2]).max(), 0.06)


def test_a_body_has_all_that_hangs_on_it():
    assert body_tree(np.array([0, 0, 1, 2, 0, 4]), 1) == [1, 2, 3]


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2])
def test_a_box_is_taken_across_its_narrow_side(angle):
    points = at(turned(box_points(np.array([0.05, 0.02, 0.03])), angle), 0.1, -0.2, 0.03)
    grasp = narrowest_grasp(points, NOTHING, 0.3)
    assert abs(turn(grasp.yaw, angle + np.pi / 2)) < np.deg2rad(5)
    assert 0.04 <= grasp.width < 0.05
    assert np.allclose(grasp.position[:2], [0.1, -0.2], atol=1e-6)
    assert np.isclose(grasp.bottom, 0)


def test_the_palm_stays_above_a_tall_object():
    grasp = narrowest_grasp(box_points(np.array([0.02, 0.02, 0.1])), NOTHING, 0.0)
    assert np.isclose(grasp.position[2], 0.1 - REACH_DOWN)


def test_a_round_object_is_taken_where_there_is_room_for_the_fingers():
    """A wall stands where the fingers would be without a turn."""
    wall = at(box_points(np.array([0.01, 0.05, 0.1])), 0.06, 0, 0)
    can = cylinder_points(0.03, 0.05)
    assert abs(narrowest_grasp(can, NOTHING, 0.0).yaw) < 0.2
    grasp = narrowest_grasp(can, wall, 0.0)
    assert clearance(grasp.position, grasp.yaw, OPENING, wall) > clearance(grasp.position, 0.0, OPENING, wall)
    assert abs(turn(grasp.yaw, 0.0)) > np.deg2rad(30)


def test_a_wide_bowl_is_taken_at_its_rim_away_from_a_wall():
    bowl = np.concatenate([at(cylinder_points(radius, 0.001), 0, 0, radius) for radius in (0.03, 0.045, 0.06)])
    wall = at(box_points(np.array([0.01, 0.2, 0.2])), 0.09, 0, 0)
    grasp = plan_grasp(bowl, wall, 0.0)
    radius = np.linalg.norm(grasp.position[:2])
    assert 0.05 < radius < 0.06
    assert grasp.position[0] < 0  # the side that is away from the wall
    radial = np.arctan2(grasp.position[1], grasp.position[0])
    assert abs(turn(grasp.yaw, radial)) < 1e-6  # fingers stand on both sides of the rim


def test_the_smallest_turn_takes_a_gripper_for_the_same_after_half_a_turn():
    assert np.isclose(turn(np.pi - 0.1, 0.0), -0.1)
    assert np.isclose(turn(0.3, 0.1), 0.2)


def test_a_carried_object_goes_over_what_is_near_its_way_and_only_that():
    begin, end = np.zeros(3), np.array([1.0, 0, 0])
    near, far, behind = [0.5, 0.9 * BESIDE, 0.3], [0.5, 1.1 * BESIDE, 0.9], [-1.1 * BESIDE, 0, 0.8]
    assert highest_between(np.array([near, far, behind]), begin, end) == 0.3
    assert highest_between(NOTHING, begin, end) == -np.inf
