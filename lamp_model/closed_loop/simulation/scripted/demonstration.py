"""One attempt at a task."""

from dataclasses import dataclass

import numpy as np

from lamp_model.closed_loop.simulation.perturbations.perturber import Perturber
from lamp_model.closed_loop.simulation.scripted.arm import OPEN, Arm, OutOfTime, Trajectory
from lamp_model.closed_loop.simulation.scripted.disturbances import Pushes, Sway
from lamp_model.closed_loop.simulation.scripted.environments import OpenTask, reset
from lamp_model.closed_loop.simulation.scripted.pick_place import NotGrasped
from lamp_model.closed_loop.simulation.scripted.tasks import task_skills

REST = np.array([0.0] * 6 + [OPEN])
HELD = 5
"""Steps for which the goal has to hold at the end."""
PATIENCE = 25
"""Steps for which the hand waits for that."""


@dataclass(frozen=True)
class Attempt:
    """An attempt that has ended.

    Attributes:
        reason: why it failed; empty for a success.
        model: the simulator's model (MuJoCo XML), with fixtures where they stood.
    """

    trajectory: Trajectory
    reason: str
    model: str


def attempt(
    task: OpenTask,
    seed: int,
    perturber: Perturber | None = None,
    settle: int = 10,
    at_most: int = 300,
    pushes: float = 0.0,
    sway: float = 0.0,
) -> Attempt:
    """Try to solve a task; all chance comes from the seed.

    Args:
        task: its environment is reset.
        seed: 0 to 2^32 - 1.
        perturber: perturbs the start; None leaves it as it is.
        settle: steps without motion before the recording begins, as in evaluation.
        at_most: steps that are recorded.
        pushes: mean number of pushes in 100 steps (``Pushes``).
        sway: standard deviation of the noise in every movement (``Sway``).
    """
    reset(task.environment, seed)
    if perturber is not None:
        perturber.change(task.environment)
    for _ in range(settle):
        task.environment.step(REST)
    model = task.environment.sim.model.get_xml()
    arm = Arm(task.environment, at_most, Pushes(pushes, seed), Sway(sway, seed))
    chance = np.random.default_rng(seed)
    try:
        for skill in task_skills(task):
            skill(arm, chance)
        _wait(arm)
    except (NotGrasped, OutOfTime) as error:
        return Attempt(arm.trajectory, str(error), model)
    solved = all(arm.trajectory.solved[-HELD:])
    return Attempt(arm.trajectory, "" if solved else "the goal did not hold at the end", model)


def _wait(arm: Arm) -> None:
    """Stay where the hand is until the goal has held for a while, or patience ends."""
    here, yaw = arm.position, arm.yaw
    for _ in range(PATIENCE):
        if all(arm.trajectory.solved[-HELD:]):
            return
        arm.step(here, yaw, arm.trajectory.actions[-1][-1])
