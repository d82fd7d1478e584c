"""Which skills solve a task, from its goal."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lamp_model.closed_loop.simulation.scripted.arm import Arm
from lamp_model.closed_loop.simulation.scripted.environments import OpenTask
from lamp_model.closed_loop.simulation.scripted.pick_place import PickAndPlace, Place
from lamp_model.closed_loop.simulation.scripted.shapes import ARENA, surface_points
from lamp_model.closed_loop.simulation.scripted.turning import Turn

Skill = Callable[[Arm, np.random.Generator], None]
"""Moves the arm; its small choices come from the generator."""
OVER_FLOOR = 0.012
"""How far above a container's underside an object is let go, metres, if the hand can come so low."""
INTO = 0.012
"""How far below a container's upper edge the fingertips go."""
DEEP = 0.04
"""Height of a dish into which things are dropped; lower ones are plates."""
OVER_TOP = 0.003
"""How far above a flat top."""
OVER_SITE = 0.012
"""How far above the middle of a marked region."""
TURNED_ON = 1.0
"""Radians by which a stove's knob is turned; it is on from 0.5."""
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
    if task.suite == "robosuite":
        return robosuite_skills(task.name, environment)
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
    if kind == "on" and target in environment.object_sites_dict and not target.startswith("main_table"):
        return PickAndPlace(bodies[moved], _others(environment, moved), lambda arm: _over_site(arm, target))
    if kind == "turnon" and f"{moved}_button" in _body_names(environment):
        return Turn(environment.sim.model.body_name2id(f"{moved}_button"), TURNED_ON)
    raise NoScript(f"there is no scripted controller for the goal ({' '.join(goal)})")


def robosuite_skills(name: str, environment: Any) -> list[Skill]:
    """The skills of one of robosuite's own tasks, by its name in lower case."""
    if name == "lift":
        return [PickAndPlace(environment.cube_body_id, (), lambda arm: Place(arm.position, 0.0), lift_only=True)]
    under = environment.cubeB_body_id
    return [PickAndPlace(environment.cubeA_body_id, (under,), lambda arm: _on_top(arm, under))]


def _body_names(environment: Any) -> list[str]:
    model = environment.sim.model._model
    return [model.body(number).name for number in range(model.nbody)]


def _others(environment: Any, moved: str) -> tuple[int, ...]:
    """Bodies beside an object: all objects and fixtures but what everything stands on."""
    return tuple(body for name, body in environment.obj_body_id.items() if name != moved and name not in ARENA)


def _inside(arm: Arm, container: int) -> Place:
    points = surface_points(arm.model, arm.data, container)
    low, high = points.min(axis=0), points.max(axis=0)
    point = np.array([*((low + high) / 2)[:2], low[2] + OVER_FLOOR])
    return Place(point, float(high[2]), float(high[2]) - INTO)


def _on_top(arm: Arm, under: int) -> Place:
    points = surface_points(arm.model, arm.data, under)
    low, high = points.min(axis=0), points.max(axis=0)
    return Place(np.array([*((low + high) / 2)[:2], high[2] + OVER_TOP]), float(high[2]))


def _over_site(arm: Arm, site: str) -> Place:
    centre = arm.data.site_xpos[arm.model.site(site).id]
    return Place(np.array([*centre[:2], centre[2] + OVER_SITE]), float(centre[2]))


def _upon(arm: Arm, under: int) -> Place:
    points = surface_points(arm.model, arm.data, under)
    low, high = points.min(axis=0), points.max(axis=0)
    if high[2] - low[2] > DEEP:
        return _inside(arm, under)
    return Place(np.array([*((low + high) / 2)[:2], low[2] + ONTO]), float(high[2]))
