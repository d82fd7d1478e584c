"""Where a point must be if it moves with the things around it: rigid motions fitted to its neighbours in 3D."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

FEWEST = 4
"""Neighbours that a fit needs."""
OUTLIER = 0.012
"""Metres from the first fit at which a neighbour is left out of the second."""
THINNEST = 1e-5
"""Square metres: neighbours on a line do not say how things turn about it."""


@dataclass(frozen=True)
class Predictions:
    """N (point, step) pairs and where the neighbours put them, in the camera of the reference frame, in metres."""

    point: Int[np.ndarray, "N"]
    step: Int[np.ndarray, "N"]
    xyz: Float[np.ndarray, "N 3"]


def predict(
    xyz: Float[np.ndarray, "K S 3"],
    valid: Bool[np.ndarray, "K S"],
    leaders: Bool[np.ndarray, "K"],
    wanted: Bool[np.ndarray, "K S"],
    neighbours: int,
    reach: float,
    agree: float,
) -> Predictions:
    """Carry points from step 0 by the rigid motion of their nearest leaders.

    Args:
        xyz: positions; only valid ones are used.
        leaders: points that may lead.
        wanted: what to predict.
        neighbours: as many of the nearest leaders are used, if they are valid at that step ...
        reach: ... and within so many metres at step 0.
        agree: root mean square in metres up to which the leaders move as one; elsewhere there is no prediction.
    """
    who = np.flatnonzero(leaders)
    rows = np.flatnonzero(wanted.any(axis=1))
    nothing = Predictions(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3)))
    if len(who) < FEWEST or len(rows) == 0:
        return nothing
    start = xyz[:, 0]
    apart = np.linalg.norm(start[rows, None] - start[who], axis=-1)
    apart[rows[:, None] == who] = np.inf
    order = np.argsort(apart, axis=1)[:, :neighbours]
    close = np.take_along_axis(apart, order, axis=1) < reach
    row, step = np.nonzero(wanted[rows])
    leader = who[order[row]]  # N n
    usable = close[row] & valid[leader, step[:, None]]
    enough = usable.sum(axis=1) >= FEWEST
    row, step, leader, usable = row[enough], step[enough], leader[enough], usable[enough]
    if len(row) == 0:
        return nothing
    before, after = start[leader], np.where(usable[..., None], xyz[leader, step[:, None]], 0)
    rotation, shift, spread = fit_rigid(before, after, usable)
    off = _residual(before, after, rotation, shift)
    trimmed = usable & (off < OUTLIER)
    again = np.flatnonzero((trimmed != usable).any(axis=1))
    if len(again):
        anew = before[again], after[again]
        rotation[again], shift[again], spread[again] = fit_rigid(*anew, trimmed[again])
        off[again] = _residual(*anew, rotation[again], shift[again])
    count = trimmed.sum(axis=1)
    squares = np.where(trimmed, off**2, 0).sum(axis=1)
    good = (count >= FEWEST) & (squares <= agree**2 * count) & (spread > THINNEST * count)
    point = rows[row]
    there = (rotation @ start[point][..., None])[..., 0] + shift
    return Predictions(point[good], step[good], there[good])


def fit_rigid(
    before: Float[np.ndarray, "N n 3"], after: Float[np.ndarray, "N n 3"], used: Bool[np.ndarray, "N n"]
) -> tuple[Float[np.ndarray, "N 3 3"], Float[np.ndarray, "N 3"], Float[np.ndarray, "N"]]:
    """Least-squares rotations and shifts with ``after = rotation @ before + shift`` (Kabsch 1976), over the points used.

    Returns:
        Rotation, shift, and the second singular value of the covariance: near 0 where the points lie on a line.
    """
    weight = (used / np.maximum(used.sum(axis=1, keepdims=True), 1))[:, None]
    centre, target = ((weight @ p)[:, 0] for p in (before, after))
    from_centre = (before - centre[:, None]) * used[..., None]
    covariance = from_centre.swapaxes(1, 2) @ (after - target[:, None])
    left, sizes, right = np.linalg.svd(covariance)
    proper = np.ones_like(sizes)
    proper[:, 2] = np.sign(np.linalg.det(left) * np.linalg.det(right))
    rotation = (right.swapaxes(1, 2) * proper[:, None]) @ left.swapaxes(1, 2)
    return rotation, target - (rotation @ centre[..., None])[..., 0], sizes[:, 1]


def _residual(
    before: Float[np.ndarray, "N n 3"],
    after: Float[np.ndarray, "N n 3"],
    rotation: Float[np.ndarray, "N 3 3"],
    shift: Float[np.ndarray, "N 3"],
) -> Float[np.ndarray, "N n"]:
    off = before @ rotation.swapaxes(1, 2) + shift[:, None] - after
    return np.sqrt((off * off).sum(axis=-1))
