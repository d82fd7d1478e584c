"""Turn a knob by its ridge."""

from dataclasses import dataclass

import numpy as np

from lamp_model.closed_loop.simulation.scripted.arm import CLOSED, OPEN, Arm
from lamp_model.closed_loop.simulation.scripted.grasps import narrowest_grasp
from lamp_model.closed_loop.simulation.scripted.shapes import surface_points

RIDGE = 0.014
"""How far below a knob's top its ridge is taken, metres."""


@dataclass(frozen=True)
class Turn:
    """Turn a knob around the vertical.

    Attributes:
        body: the knob's.
        by: radians, counterclockwise seen from above.
    """

    body: int
    by: float

    def __call__(self, arm: Arm, chance: np.random.Generator) -> None:
        """Do it.

        Raises:
            OutOfTime: it took too long.
        """
        points = surface_points(arm.model, arm.data, self.body)
        top = float(points[:, 2].max())
        grasp = narrowest_grasp(points[points[:, 2] > top - RIDGE], np.zeros((0, 3)), arm.yaw)
        at = np.array([*grasp.position[:2], top - RIDGE / 2])
        up = np.array([0.0, 0.0, 1.0])
        arm.move(at + 0.1 * up + chance.normal(size=3) * 0.01, grasp.yaw, OPEN, within=0.02)
        arm.move(at, grasp.yaw, OPEN, within=0.006, speed=0.6)
        arm.hold(8, at, grasp.yaw, CLOSED)
        begin, steps = arm.yaw, int(np.ceil(abs(self.by) / 0.035))
        for step in range(1, steps + 1):
            arm.step(at, begin + self.by * step / steps, CLOSED)
        arm.hold(4, arm.position, arm.yaw, OPEN)
        arm.move(arm.position + 0.1 * up, arm.yaw, OPEN, within=0.02, at_most=25)
