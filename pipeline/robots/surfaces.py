"""Points on the surfaces of a robot's links, from the shapes in its description."""

from typing import Any

import numpy as np
from jaxtyping import Float

from schemas.cameras import pose_from_quaternion, transform

SPACING = 0.003
"""Mean distance of neighbouring points, metres."""
AROUND = 48
"""Corners of round shapes."""
LARGEST = 100.0
"""Surface in square metres above which a shape is no part of a robot."""


def surface_points(model: Any, geom: int) -> Float[np.ndarray, "N 3"]:
    """Points on a shape, in its body's frame, metres; the same on every call.

    Args:
        model: ``mujoco.MjModel``.
        geom: number of a shape.

    Raises:
        ValueError: of shapes other than meshes, boxes, spheres, cylinders and capsules, and of huge ones.
    """
    pose = pose_from_quaternion(model.geom_pos[geom], model.geom_quat[geom])
    return transform(pose, sampled(_triangles(model, geom), SPACING))


def sampled(triangles: Float[np.ndarray, "F 3 3"], spacing: float) -> Float[np.ndarray, "N 3"]:
    """Random points on triangles, evenly by area, and all corners."""
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area = np.linalg.norm(np.cross(first, second), axis=-1) / 2
    chance = np.random.default_rng(0)
    if not 0 < area.sum() < LARGEST:
        raise ValueError(f"a shape has a surface of {area.sum():g} square metres: is it in millimetres?")
    count = int(np.ceil(area.sum() / spacing**2))
    which = chance.choice(len(triangles), count, p=area / area.sum())
    u, v = chance.random((2, count, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    inside = triangles[which, 0] + u * first[which] + v * second[which]
    return np.concatenate([inside, np.unique(triangles.reshape(-1, 3), axis=0)])


def _triangles(model: Any, geom: int) -> Float[np.ndarray, "F 3 3"]:
    import mujoco

    kinds = mujoco.mjtGeom
    kind, size = kinds(int(model.geom_type[geom])), np.array(model.geom_size[geom])
    if kind == kinds.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        corner, face = int(model.mesh_vertadr[mesh]), int(model.mesh_faceadr[mesh])
        corners = model.mesh_vert[corner : corner + int(model.mesh_vertnum[mesh])]
        return np.array(corners[model.mesh_face[face : face + int(model.mesh_facenum[mesh])]], float)
    if kind == kinds.mjGEOM_BOX:
        return _box(size)
    if kind == kinds.mjGEOM_SPHERE:
        return _revolved(*_arc(size[0], -90, 90))
    if kind == kinds.mjGEOM_CYLINDER:
        radius, half = size[:2]
        return _revolved(np.array([0, radius, radius, 0]), np.array([-half, -half, half, half]))
    if kind == kinds.mjGEOM_CAPSULE:
        radius, half = size[:2]
        (below, low), (above, high) = _arc(radius, -90, 0), _arc(radius, 0, 90)
        return _revolved(np.concatenate([below, above]), np.concatenate([low - half, high + half]))
    raise ValueError(f"shapes are meshes, boxes, spheres, cylinders and capsules, found {kind.name[7:].lower()}")


def _arc(radius: float, begin: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Radius and height along an arc, in degrees from the equator."""
    angle = np.radians(np.linspace(begin, end, AROUND // 4 + 1))
    return radius * np.cos(angle), radius * np.sin(angle)


def _revolved(radius: np.ndarray, height: np.ndarray) -> Float[np.ndarray, "F 3 3"]:
    """Triangles of the surface that a line makes which turns about z."""
    angle = np.linspace(0, 2 * np.pi, AROUND + 1)
    rings = np.stack(
        [np.outer(radius, np.cos(angle)), np.outer(radius, np.sin(angle)), np.outer(height, np.ones(AROUND + 1))], -1
    )
    a, b, c, d = rings[:-1, :-1], rings[:-1, 1:], rings[1:, :-1], rings[1:, 1:]
    both = np.concatenate([np.stack([a, b, c], axis=2), np.stack([b, d, c], axis=2)])
    return both.reshape(-1, 3, 3)


def _box(half: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "12 3 3"]:
    sides = []
    for axis in range(3):
        across, along = [other for other in range(3) if other != axis]
        for sign in (-1.0, 1.0):
            square = np.zeros((4, 3))
            square[:, axis] = sign
            square[:, across], square[:, along] = [-1, 1, 1, -1], [-1, -1, 1, 1]
            sides += [square[[0, 1, 2]], square[[0, 2, 3]]]
    return np.array(sides) * half
