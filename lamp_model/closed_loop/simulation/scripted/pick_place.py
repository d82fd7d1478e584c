"""Take an object and set it down somewhere else."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lamp_model.closed_loop.simulation.scripted.arm import CLOSED, OPEN, Arm
from lamp_model.closed_loop.simulation.scripted.grasps import plan_grasp
from lamp_model.closed_loop.simulation.scripted.shapes import surface_points

ABOVE = 0.10
"""Height above a grasp from which the hand comes down, metres."""
CLEAR = 0.04
"""Height of a carried object's lowest point over what it is carried across, metres."""
LEAST = 0.08
"""Least height to which an object is lifted from where it was, metres."""
SLIPPED = 0.035
"""How far an object may move in the hand, metres."""
BESIDE = 0.1
"""How near the way of a carried object things are that it is carried over, metres."""
JITTER = np.array([0.012, 0.012, 0.015])
"""Standard deviation of the first waypoint, metres: so that demonstrations differ."""


class NotGrasped(Exception):
    """The object did not come up with the hand."""


@dataclass(frozen=True)
class Place:
    """Where an object is to go.

    Attributes:
        point: for the middle of the object, and (z) for its lowest point when it is let go, world, metres.
        top: height of the highest thing on the way there, which the object is carried over.
        hand: lowest height of the fingertips; the object is let go from higher up if need be.
    """

    point: np.ndarray
    top: float
    hand: float = -np.inf


@dataclass(frozen=True)
class PickAndPlace:
    """Take one object and put it at a place.

    Attributes:
        body: the object's body.
        obstacles: bodies to stay away from when it is taken.
        place: where it goes, asked for when it is in the hand.
        lift_only: keep it in the hand, lifted, in place of that.
    """

    body: int
    obstacles: tuple[int, ...]
    place: Callable[[Arm], Place]
    lift_only: bool = False

    def __call__(self, arm: Arm, chance: np.random.Generator) -> None:
        """Do it.

        Raises:
            NotGrasped: the object stayed where it was.
            OutOfTime: it took too long.
        """
        obstacles = self._obstacles(arm)
        grasp = plan_grasp(surface_points(arm.model, arm.data, self.body), obstacles, arm.yaw)
        up = np.array([0.0, 0.0, 1.0])
        arm.move(grasp.position + ABOVE * up + chance.normal(size=3) * JITTER, grasp.yaw, OPEN, within=0.03)
        arm.move(grasp.position + 0.5 * ABOVE * up, grasp.yaw, OPEN, within=0.012)
        arm.move(grasp.position, grasp.yaw, OPEN, within=0.005, at_most=40, speed=0.5)
        arm.hold(8, grasp.position, grasp.yaw, CLOSED)
        held = arm.data.xpos[self.body] - arm.position
        place = self.place(arm)
        top = max(place.top, highest_between(obstacles, grasp.position, place.point), grasp.bottom)
        lifted = grasp.position + max(top + CLEAR - grasp.bottom, LEAST) * up
        arm.move(lifted, grasp.yaw, CLOSED, within=0.02, speed=0.8)
        self._check_held(arm, held)
        if self.lift_only:
            arm.hold(5, arm.position, grasp.yaw, CLOSED)
            return
        over = self._hand_for(arm, place.point)
        over[2] = lifted[2]
        arm.move(over, grasp.yaw, CLOSED, within=0.02, at_most=80)
        self._check_held(arm, held)
        down = self._hand_for(arm, place.point)
        down[2] = max(down[2], place.hand)
        arm.move(down, grasp.yaw, CLOSED, within=0.006, at_most=50, speed=0.6)
        arm.hold(6, down, grasp.yaw, OPEN)
        arm.move(down + 0.08 * up, grasp.yaw, OPEN, within=0.02, at_most=25)

    def _check_held(self, arm: Arm, held: np.ndarray) -> None:
        if np.linalg.norm(arm.data.xpos[self.body] - arm.position - held) > SLIPPED:
            raise NotGrasped("the object slipped out of the gripper or was missed")

    def _obstacles(self, arm: Arm) -> np.ndarray:
        around = [surface_points(arm.model, arm.data, body) for body in self.obstacles]
        return np.concatenate([np.zeros((0, 3)), *around])

    def _hand_for(self, arm: Arm, point: np.ndarray) -> np.ndarray:
        """Where the hand is when the object in it is at a point."""
        points = surface_points(arm.model, arm.data, self.body)
        low, high = points.min(axis=0), points.max(axis=0)
        return arm.position + point - [*((low + high) / 2)[:2], low[2]]


def highest_between(obstacles: np.ndarray, begin: np.ndarray, end: np.ndarray) -> float:
    """The height of the highest obstacle within ``BESIDE`` of the straight way between two places, seen from above;
    minus infinity where there is none.

    Args:
        obstacles: points N x 3, metres; ``begin`` and ``end`` are points too.
    """
    way = (end - begin)[:2]
    share = np.clip((obstacles[:, :2] - begin[:2]) @ way / max(float(way @ way), 1e-12), 0, 1)
    away = np.linalg.norm(obstacles[:, :2] - begin[:2] - share[:, None] * way, axis=1)
    return float(obstacles[away < BESIDE, 2].max(initial=-np.inf))
