"""Where to take an object from above with two fingers, from points on its surface.

The gripper points down. ``yaw`` is the angle of the line from finger to finger in the world's xy plane; a gripper
turned by half a turn is the same.
"""

from dataclasses import dataclass

import numpy as np

OPENING = 0.072
"""Widest object that fits between the open fingers with room to spare, metres."""
REACH_DOWN = 0.03
"""How far below an object's top the fingertips go: less than the palm is above them."""
OVER_TABLE = 0.012
"""Lowest height of the fingertips above what an object stands on."""
TURN_COST = 0.012
"""Metres of width, or of clearance, that a turn by one radian is worth."""
ROOMY = 0.05
"""Clearance beyond which more is worth nothing, metres."""
RIM_DEPTH = 0.022
"""How far below a rim the fingertips go."""
WALL = 0.008
"""How thick a wall is taken to be."""
SECTOR = np.deg2rad(20)
"""Half of the angle in which the highest point counts as the rim."""
TILT_COST = 3.0
"""Metres of clearance that a metre below the rim's highest place is worth: the palm reaches over the other side."""
TOUCHES, TOUCHING = 0.004, 0.1
"""Clearance below which the gripper touches what is beside it, and what that costs, metres."""
IMPOSSIBLE = 10.0
FINGER = (0.011, 0.012)
"""Half a finger's thickness along the line between the fingers, and half its width across, metres."""
HAND = (0.105, 0.034)
"""The same of the hand above the fingers."""
HAND_ABOVE = 0.055
"""Height of the hand's underside above the fingertips' centre."""


@dataclass(frozen=True)
class Grasp:
    """A place for the gripper.

    Attributes:
        position: of the point between the fingertips, world, metres.
        yaw: radians.
        width: between the fingers when they hold the object, metres.
        bottom: height of the object's lowest point.
    """

    position: np.ndarray
    yaw: float
    width: float
    bottom: float


def turn(target: float, current: float) -> float:
    """The smallest turn from one yaw to another, -pi/2 to pi/2."""
    return (target - current + np.pi / 2) % np.pi - np.pi / 2


def clearance(position: np.ndarray, yaw: float, opening: float, obstacles: np.ndarray) -> float:
    """The smallest horizontal distance (metres, 0 where they overlap) of the open gripper from obstacles beside it.

    Args:
        position: of the point between the fingertips.
        yaw: of the line between the fingers.
        opening: distance of the fingers' inner faces.
        obstacles: points N x 3.
    """
    if len(obstacles) == 0:
        return np.inf
    along = np.array([np.cos(yaw), np.sin(yaw)])
    across = np.array([-along[1], along[0]])
    away = obstacles[:, :2] - position[:2]
    u, v, height = away @ along, away @ across, obstacles[:, 2] - position[2]
    middle = opening / 2 + FINGER[0]
    fingers = np.hypot(np.maximum(abs(abs(u) - middle) - FINGER[0], 0), np.maximum(abs(v) - FINGER[1], 0))
    hand = np.hypot(np.maximum(abs(u) - HAND[0], 0), np.maximum(abs(v) - HAND[1], 0))
    near = np.concatenate([fingers[height > -0.012], hand[height > HAND_ABOVE], [np.inf]])
    return float(near.min())


def _crowded(position: np.ndarray, yaw: float, obstacles: np.ndarray) -> float:
    """The cost of little room, metres."""
    room = clearance(position, yaw, OPENING, obstacles)
    return (TOUCHING if room < TOUCHES else 0.0) - min(room, ROOMY)


def plan_grasp(points: np.ndarray, obstacles: np.ndarray, yaw: float) -> Grasp:
    """The best grasp: across the narrowest side of an object, or astride the rim of one that is too wide.

    Args:
        points: on the object's surface, N x 3, world, metres.
        obstacles: points on everything else that can be touched, M x 3.
        yaw: of the gripper now.
    """
    across = narrowest_grasp(points, obstacles, yaw)
    return across if across.width <= OPENING else rim_grasp(points, obstacles, yaw)


def narrowest_grasp(points: np.ndarray, obstacles: np.ndarray, yaw: float) -> Grasp:
    """Across the object's middle, where it is narrow, with little turning and room for the fingers."""
    low, high = points.min(axis=0), points.max(axis=0)
    tall = high[2] - low[2]
    height = high[2] - min(REACH_DOWN, tall / 2)
    position = np.array([*((low + high) / 2)[:2], max(height, low[2] + OVER_TABLE)])
    best, least = None, np.inf
    for turned in np.linspace(-np.pi / 2, np.pi / 2, 36, endpoint=False):
        axis = np.array([np.cos(yaw + turned), np.sin(yaw + turned)])
        along = points[:, :2] @ axis
        width = float(along.max() - along.min())
        centred = position.copy()
        centred[:2] += axis * ((along.max() + along.min()) / 2 - position[:2] @ axis)
        cost = width + TURN_COST * abs(turned) + _crowded(centred, yaw + turned, obstacles)
        cost += IMPOSSIBLE if width > OPENING else 0
        if cost < least:
            best, least = Grasp(centred, yaw + turned, width, float(low[2])), cost
    assert best is not None
    return best


def rim_grasp(points: np.ndarray, obstacles: np.ndarray, yaw: float) -> Grasp:
    """Astride the wall of a round, open object, which may be tilted: where the rim is high and there is most room."""
    low, high = points.min(axis=0), points.max(axis=0)
    centre = ((low + high) / 2)[:2]
    away = points[:, :2] - centre
    angles, radii = np.arctan2(away[:, 1], away[:, 0]), np.linalg.norm(away, axis=1)
    best, least = None, np.inf
    for turned in np.linspace(-np.pi / 2, np.pi / 2, 18, endpoint=False):
        for side in (0, np.pi):
            angle = yaw + turned + side
            near = abs((angles - angle + np.pi) % (2 * np.pi) - np.pi) < SECTOR
            outer = near & (radii > 0.5 * radii.max())
            if not outer.any():
                continue
            top = float(points[outer, 2].max())
            radius = float(radii[outer & (points[:, 2] > top - 0.008)].max()) - WALL / 2
            place = centre + radius * np.array([np.cos(angle), np.sin(angle)])
            position = np.array([*place, top - RIM_DEPTH])
            cost = TURN_COST * abs(turned) + _crowded(position, angle, obstacles) + TILT_COST * (high[2] - top)
            if cost < least:
                best, least = Grasp(position, yaw + turned, WALL, float(low[2])), cost
    assert best is not None
    return best
