"""Points on the surfaces with which bodies collide, in the world."""

from typing import Any

import numpy as np

ARENA = ("main_table", "floor", "countertop", "coffee_table", "kitchen_table", "living_room_table", "study_table")
"""LIBERO's names of what everything stands on."""
SPACING = 0.01
"""Distance of neighbouring points on boxes and cylinders, metres."""


def body_tree(parents: np.ndarray, root: int) -> list[int]:
    """A body and all bodies that hang on it; ``parents`` is each body's parent, as MuJoCo numbers them."""
    found = {root}
    for body in range(root + 1, len(parents)):
        if int(parents[body]) in found:
            found.add(body)
    return sorted(found)


def box_points(half: np.ndarray) -> np.ndarray:
    """Points (N x 3) on a box's six faces, in its own frame; ``half`` is half its size, metres."""
    counts = np.maximum(np.ceil(2 * np.asarray(half) / SPACING).astype(int), 1) + 1
    axes = [np.linspace(-size, size, count) for size, count in zip(half, counts, strict=True)]
    faces = []
    for axis in range(3):
        across = [one for one in range(3) if one != axis]
        first, second = (grid.ravel() for grid in np.meshgrid(*(axes[one] for one in across), indexing="ij"))
        for side in (-half[axis], half[axis]):
            face = np.empty((len(first), 3))
            face[:, axis], face[:, across[0]], face[:, across[1]] = side, first, second
            faces.append(face)
    return np.concatenate(faces)


def cylinder_points(radius: float, half_length: float) -> np.ndarray:
    """Points (N x 3) on a cylinder's side and the rims of its ends, in its own frame, its axis along z, metres."""
    around = np.linspace(0, 2 * np.pi, max(int(2 * np.pi * radius / SPACING), 12), endpoint=False)
    along = np.linspace(-half_length, half_length, max(int(np.ceil(2 * half_length / SPACING)), 1) + 1)
    ring = radius * np.stack([np.cos(around), np.sin(around)], axis=1)
    return np.concatenate([np.column_stack([ring, np.full(len(ring), z)]) for z in along])


def surface_points(model: Any, data: Any, root: int) -> np.ndarray:
    """Points (N x 3, world, metres) on everything that collides of a body and what hangs on it.

    Args:
        model: ``mujoco.MjModel``.
        data: ``mujoco.MjData``, of which the poses are up to date.
        root: the body's number.
    """
    found = [np.zeros((0, 3))]
    for body in body_tree(model.body_parentid, root):
        first = model.body_geomadr[body]
        for geom in range(first, first + model.body_geomnum[body]):
            if model.geom_contype[geom] or model.geom_conaffinity[geom]:
                own = _geom_points(model, geom)
                found.append(own @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
    return np.concatenate(found)


def _geom_points(model: Any, geom: int) -> np.ndarray:
    """Points of a geometry in its own frame."""
    import mujoco

    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first = model.mesh_vertadr[mesh]
        return np.asarray(model.mesh_vert[first : first + model.mesh_vertnum[mesh]], float)
    if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        return cylinder_points(float(size[0]), float(size[1]))
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return box_points(np.asarray(size, float))
    return box_points(np.full(3, float(size[0])))  # a ball, by the box around it
