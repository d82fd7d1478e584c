"""Which skills solve a task, from its goal."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lamp_model.closed_loop.simulation.scripted.arm import Arm
from lamp_model.closed_loop.simulation.scripted.environments import OpenTask
from lamp_model.closed_loop.simulation.scripted.pick_place import PickAndPlace, Place
from lamp_model.closed_loop.simulation.scripted.shapes import surface_points

Skill = Callable[[Arm, np.random.Generator], None]
"""Moves the arm; its small choices come from the generator."""
OVER_FLOOR = 0.012
"""How far above a container's underside an object is let go, metres, if the hand can come so low."""
INTO = 0.012
"""How far below a container's upper edge the fingertips go."""
ONTO = 0.006
"""How far above a plate's underside."""


class NoScript(ValueError):
    """There is no scripted controller for a task."""


def task_skills(task: OpenTask) -> list[Skill]:
    """The skills that solve a task, in order.

    Raises:
        NoScript: its goal is of a kind for which there is none.
    """
    environment = task.environment
    return [_skill(environment, goal) for goal in environment.parsed_problem["goal_state"]]


def _skill(environment: Any, goal: list[str]) -> Skill:
    bodies = environment.obj_body_id
    kind, moved, target = [*goal, "", ""][:3]
    if kind == "in" and target.endswith("_contain_region"):
        container = bodies[target.removesuffix("_contain_region")]
        return PickAndPlace(bodies[moved], _others(environment, moved), lambda arm: _inside(arm, container))
    if kind == "on" and target in bodies:
        under = bodies[target]
        return PickAndPlace(bodies[moved], _others(environment, moved), lambda arm: _upon(arm, under))
    raise NoScript(f"there is no scripted controller for the goal ({' '.join(goal)})")


def _others(environment: Any, moved: str) -> tuple[int, ...]:
    """Bodies beside an object: all objects and fixtures but what everything stands on."""
    arena = ("main_table", "floor", "countertop", "coffee_table", "kitchen_table", "living_room_table", "study_table")
    return tuple(body for name, body in environment.obj_body_id.items() if name != moved and name not in arena)


def _inside(arm: Arm, container: int) -> Place:
    points = surface_points(arm.model, arm.data, container)
    low, high = points.min(axis=0), points.max(axis=0)
    point = np.array([*((low + high) / 2)[:2], low[2] + OVER_FLOOR])
    return Place(point, float(high[2]), float(high[2]) - INTO)


def _upon(arm: Arm, under: int) -> Place:
    points = surface_points(arm.model, arm.data, under)
    low, high = points.min(axis=0), points.max(axis=0)
    return Place(np.array([*((low + high) / 2)[:2], low[2] + ONTO]), float(high[2]))
