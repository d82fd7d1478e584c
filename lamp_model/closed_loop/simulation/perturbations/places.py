"""Layout and robot: other places of objects, and another pose of the arm, at the start of an episode."""

from typing import Any

import numpy as np

from lamp_model.closed_loop.simulation.perturbations.spec import direction
from lamp_model.closed_loop.simulation.scripted.shapes import ARENA, surface_points

MOVED = 0.04
"""Farthest that an object is moved at strength 1, metres."""
APART = 0.012
"""Objects keep at least this distance, metres."""
REACH = ((-0.3, 0.22), (-0.32, 0.34))
"""Where objects stay, x and y relative to the middle of what they stand on, if they are there before."""
TURNED = 0.1
TRIES = 200


def move_objects(environment: Any, strength: float, drawn: np.random.Generator) -> dict[str, Any]:
    """Move what stands on table or floor, with what stands on it, to other free places.

    An object for which there is none stays where it was.

    Returns:
        ``moved``: how far each was moved, x and y in metres.
    """
    sim = environment.sim
    boxes = {name: _box(environment, name) for name in environment.obj_body_id if name not in ARENA}
    moved = {}
    for name, with_it in carried(list(environment.objects_dict), environment.parsed_problem["initial_state"]).items():
        others = [boxes[one] for one in boxes if one not in (name, *with_it) and not _over(boxes[one], boxes[name])]
        for _ in range(TRIES):
            by = strength * MOVED * drawn.uniform(-1, 1, 2)
            box = boxes[name] + by
            if _within(box, boxes[name], environment) and all(_apart(box, other) for other in others):
                break
        else:
            continue
        for one in (name, *with_it):
            joint = environment.objects_dict[one].joints[-1]
            pose = sim.data.get_joint_qpos(joint).copy()
            pose[:2] += by
            sim.data.set_joint_qpos(joint, pose)
            boxes[one] = boxes[one] + by
        moved[name] = by.tolist()
    sim.forward()
    return {"moved": moved}


def carried(movable: list[str], begin: list[list[str]]) -> dict[str, list[str]]:
    """For each object that stands on the arena: what stands on it.

    Args:
        movable: names of objects.
        begin: what holds at the start: ``["on", "bowl_1", "plate_1"]`` or ``["on", "plate_1", "floor_region"]``.
    """
    on = {said[1]: said[2] for said in begin if said[0] in ("on", "in")}

    def base(name: str) -> str:
        under = on.get(name, "")
        holder = next((one for one in movable if one != name and (under == one or under.startswith(f"{one}_"))), None)
        return name if holder is None else base(holder)

    free = [name for name in movable if on.get(name, "").startswith(tuple(f"{one}_" for one in ARENA))]
    return {name: [one for one in movable if one != name and base(one) == name] for name in free}


def _box(environment: Any, name: str) -> np.ndarray:
    """The smallest upright rectangle around a body: lowest x and y, highest x and y."""
    sim = environment.sim
    points = surface_points(sim.model._model, sim.data._data, environment.obj_body_id[name])[:, :2]
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _apart(one: np.ndarray, other: np.ndarray) -> bool:
    gap = np.maximum(one[0] - other[1], other[0] - one[1])
    return bool(gap.max() >= APART)


def _over(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether they overlap as they stand: one is on or in the other, or leans on it."""
    return not bool(np.maximum(one[0] - other[1], other[0] - one[1]).max() >= 0)


def _within(box: np.ndarray, before: np.ndarray, environment: Any) -> bool:
    """Whether the middle is where the arm reaches; what was outside before may come nearer."""
    middle, was = box.mean(axis=0), before.mean(axis=0)
    origin = np.asarray(environment.workspace_offset, float)[:2]
    for axis, (low, high) in enumerate(REACH):
        low, high = low + origin[axis], high + origin[axis]
        if not min(low, was[axis]) <= middle[axis] <= max(high, was[axis]):
            return False
    return True


def turn_joints(environment: Any, strength: float, drawn: np.random.Generator) -> dict[str, Any]:
    """Turn the arm's joints; a pose in which it touches something is not taken.

    Returns:
        ``turned``: by how much, radians.
    """
    sim, robot = environment.sim, environment.robots[0]
    places = [sim.model.get_joint_qpos_addr(joint) for joint in robot.robot_joints]
    start = sim.data.qpos[places].copy()
    by = np.zeros(len(places))
    for _ in range(TRIES):
        by = strength * TURNED * direction(drawn, len(places))
        sim.data.qpos[places] = start + by
        sim.forward()
        if not _touches(environment):
            break
    else:
        by[:] = 0
        sim.data.qpos[places] = start
        sim.forward()
    robot.controller.update(force=True)
    robot.controller.reset_goal()
    return {"turned": by.tolist()}


def _touches(environment: Any) -> bool:
    """Whether a part of arm or gripper touches something else than itself."""
    model, data = environment.sim.model._model, environment.sim.data._data

    def own(geom: int) -> bool:
        return model.body(int(model.geom_bodyid[geom])).name.startswith(("robot0", "gripper0", "mount0"))

    return any(own(contact.geom1) != own(contact.geom2) for contact in data.contact[: data.ncon])
