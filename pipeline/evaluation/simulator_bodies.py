"""The rigid bodies of a simulator's model, from the names that robosuite gives and from joints."""

import re
from typing import Any

import numpy as np
from jaxtyping import Int

from pipeline.evaluation.bodies import Body, BodyMap, Kind
from pipeline.simulator.model import simulator_library
from pipeline.simulator.replay import Seen

ROBOT: tuple[tuple[str, Kind], ...] = ((r"gripper\d+_|robot\d+_right_hand", "hand"), (r"robot\d+_|mount\d+_", "arm"))
"""How robosuite names the bodies of robots."""


def rigid_bodies(model: Any) -> tuple[tuple[Body, ...], Int[np.ndarray, " B"]]:
    """The rigid bodies, and for each of the model's bodies the index of the one that it belongs to.

    Bodies without a joint between them are one, unless one is of the arm and the other of the hand.

    Args:
        model: ``mujoco.MjModel``.
    """
    found: dict[tuple[int, Kind], int] = {}
    bodies: list[Body] = []
    index = np.empty(model.nbody, int)
    for i in range(model.nbody):
        root, kind = int(model.body_weldid[i]), kind_of(model, i)
        key = (root, kind)
        if key not in found:
            found[key] = len(bodies)
            named = root if kind_of(model, root) == kind else i
            bodies.append(Body(model.body(named).name or f"body {named}", kind))
        index[i] = found[key]
    return tuple(bodies), index


def kind_of(model: Any, body: int) -> Kind:
    """The kind of one of the model's bodies."""
    name = model.body(body).name
    for pattern, kind in ROBOT:
        if re.match(pattern, name):
            return kind
    root = int(model.body_weldid[body])
    if model.body_jntnum[root] == 0:
        return "static"
    free = simulator_library().mjtJoint.mjJNT_FREE
    return "object" if model.jnt_type[model.body_jntadr[root]] == free else "part"


def map_bodies(model: Any, seen: Seen, references: range, keypoints: np.ndarray) -> BodyMap:
    """The bodies on which keypoints lie.

    Args:
        model: ``mujoco.MjModel``.
        seen: the camera's view of the episode.
        references: frames on which the keypoints are set.
        keypoints: [K, 2], in px.
    """
    bodies, index = rigid_bodies(model)
    column, row = np.floor(keypoints).astype(int).T
    on = [seen.bodies[reference, row, column] for reference in references]
    return BodyMap(bodies, tuple(np.where(b >= 0, index[np.maximum(b, 0)], -1) for b in on))
