"""A Panda arm under robosuite's OSC_POSE controller, and what it does as a demonstration."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lamp_model.closed_loop.simulation.scripted.disturbances import Pushes, Sway
from lamp_model.closed_loop.simulation.scripted.grasps import turn

OPEN, CLOSED = -1.0, 1.0
GAIN = 14.0
"""Action for each metre that the hand is away; an action of 1 asks for 5 cm."""
TURN_GAIN = 2.0
"""Action for each radian; an action of 1 asks for half a radian."""
FASTEST_TURN = 0.6
ROUGH = 0.012
"""A movement that need not end nearer than this, metres, may be pushed off its way."""


class OutOfTime(Exception):
    """The attempt took more steps than it may."""


@dataclass
class Trajectory:
    """What was recorded, a row for each step.

    Attributes:
        states: before each action (time, positions, velocities).
        actions: as the controller chose them: position, rotation vector, gripper (-1 opens, 1 closes).
        executed: as given to the environment; other than ``actions`` where the hand was pushed or swayed.
        observed: after each action: ``joint_states`` 7, ``gripper_states`` 2, ``ee_pos`` 3, ``ee_quat`` (xyzw) 4.
        last: the state after the last action.
        solved: after each action, whether the task's goal holds.
    """

    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    executed: list[np.ndarray] = field(default_factory=list)
    observed: list[dict[str, np.ndarray]] = field(default_factory=list)
    last: np.ndarray | None = None
    solved: list[bool] = field(default_factory=list)


class Arm:
    """Moves the hand, and records every step."""

    def __init__(self, environment: Any, at_most: int, pushes: Pushes, sway: Sway):
        """``environment`` is robosuite's; ``at_most`` the number of steps that may be taken; ``pushes`` take the hand
        off its way where that does not matter, ``sway`` in every movement."""
        self.environment, self.at_most, self._pushes, self._sway = environment, at_most, pushes, sway
        self.model, self.data = environment.sim.model._model, environment.sim.data._data
        self.trajectory = Trajectory()
        self._site = self.model.site("gripper0_grip_site").id
        self._hand = self.model.body("robot0_right_hand").id
        robot, address = environment.robots[0], environment.sim.model.get_joint_qpos_addr
        self._joints = [address(joint) for joint in robot.robot_joints]
        self._gripper = [address(joint) for joint in robot.gripper_joints]
        self._fingers = [self.model.body(f"gripper0_{side}finger").id for side in ("left", "right")]

    @property
    def position(self) -> np.ndarray:
        """Of the point between the fingertips, world, metres."""
        return self.data.site_xpos[self._site].copy()

    @property
    def yaw(self) -> float:
        """Of the line between the fingers (``grasps``)."""
        left, right = (self.data.xpos[finger] for finger in self._fingers)
        return float(np.arctan2(*(left - right)[1::-1]))

    @property
    def opening(self) -> float:
        """Distance between the fingers, metres; about 0 where they touch."""
        left, right = (self.data.xpos[finger] for finger in self._fingers)
        return float(np.linalg.norm(left - right))

    def move(
        self,
        to: np.ndarray,
        yaw: float,
        gripper: float,
        within: float = 0.01,
        at_most: int = 60,
        speed: float = 1.0,
    ) -> bool:
        """Move towards a point until the hand is near it; whether it came there.

        Args:
            to: for the point between the fingertips, world, metres.
            yaw: for the fingers.
            gripper: ``OPEN`` or ``CLOSED``.
            within: how near, metres; where that is rough, pushes may come.
            at_most: steps after which it is given up.
            speed: largest action, 0 to 1.

        Raises:
            OutOfTime: the attempt's steps are used up.
        """
        for _ in range(at_most):
            push = self._pushes.next() if within >= ROUGH else None
            self.act(self._towards(to, yaw, gripper, speed), push, self._sway.next())
            if np.linalg.norm(to - self.position) < within:
                return True
        return False

    def hold(self, steps: int, to: np.ndarray, yaw: float, gripper: float) -> None:
        """Stay at a point for some steps."""
        for _ in range(steps):
            self.step(to, yaw, gripper)

    def step(self, to: np.ndarray, yaw: float, gripper: float) -> None:
        """One undisturbed step towards a point.

        Raises:
            OutOfTime: the attempt's steps are used up.
        """
        self.act(self._towards(to, yaw, gripper))

    def _towards(self, to: np.ndarray, yaw: float, gripper: float, speed: float = 1.0) -> np.ndarray:
        """The action of a step towards a point, with the gripper kept vertical."""
        move = GAIN * (to - self.position)
        move *= min(1.0, speed / max(float(abs(move).max()), 1e-9))
        down = self.data.site_xmat[self._site].reshape(3, 3)[:, 2]
        rotation = np.cross(down, [0.0, 0.0, -1.0])
        rotation[2] += turn(yaw, self.yaw)
        rotation = np.clip(TURN_GAIN * rotation, -FASTEST_TURN, FASTEST_TURN)
        return np.concatenate([move, rotation, [gripper]])

    def act(self, action: np.ndarray, push: np.ndarray | None = None, sway: np.ndarray | None = None) -> None:
        """Carry out an action and record it; a push (3, an action's movement) takes the place of its movement, a sway
        (3) is added to it.

        Raises:
            OutOfTime: the attempt's steps are used up.
        """
        kept = self.trajectory
        if len(kept.actions) >= self.at_most:
            raise OutOfTime(f"the task was not solved in {self.at_most} steps")
        kept.states.append(self.environment.sim.get_state().flatten())
        kept.actions.append(action)
        moved = action[:3] if push is None else push
        if sway is not None:
            moved = np.clip(moved + sway, -1, 1)
        kept.executed.append(np.concatenate([moved, action[3:]]))
        self.environment.step(kept.executed[-1])
        kept.observed.append(self._observed())
        kept.last = self.environment.sim.get_state().flatten()
        kept.solved.append(bool(self.environment._check_success()))

    def _observed(self) -> dict[str, np.ndarray]:
        """What robosuite's observables measure at the end of a step; its own may have been taken at its beginning."""
        x, y, z, w = np.roll(self.data.xquat[self._hand], -1)
        return {
            "joint_states": self.data.qpos[self._joints].copy(),
            "gripper_states": self.data.qpos[self._gripper].copy(),
            "ee_pos": self.position,
            "ee_quat": np.array([x, y, z, w]),
        }
