"""Predicts a point's position from its neighbours, by rigid motions fitted to them in 3D."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

FEWEST = 4
"""Neighbours that a fit needs."""
OUTLIER = 0.012
"""Metres from the first fit at which a neighbour is left out of the second, unless twice ``agree`` is more."""
THINNEST = 1e-5
"""Square metres: collinear neighbours do not determine the rotation about their line."""
NEWTON, CLOSE = 20, 1e-13
"""Steps to the trace of the best rotation at most, and what the last one may be; points that move as one need about
five.
"""
TINY = 1e-30


@dataclass(frozen=True)
class Predictions:
    """N (point, step) pairs and their predicted positions, in the camera of the reference frame, in metres."""

    point: Int[np.ndarray, " N"]
    step: Int[np.ndarray, " N"]
    xyz: Float[np.ndarray, "N 3"]


def predict(
    xyz: Float[np.ndarray, "K S 3"],
    valid: Bool[np.ndarray, "K S"],
    leaders: Bool[np.ndarray, " K"],
    wanted: Bool[np.ndarray, "K S"],
    neighbours: int,
    reach: float,
    agree: float,
    changed: Bool[np.ndarray, "K S"] | None = None,
) -> Predictions:
    """Predict points from step 0 by the rigid motion of their nearest leaders.

    Args:
        xyz: positions; only valid ones are used.
        leaders: points whose motion may be used.
        wanted: what to predict.
        neighbours: number of nearest leaders that are used, if they are valid at that step ...
        reach: ... and within so many metres at step 0.
        agree: largest root mean square error in metres of the rigid fit; above it there is no prediction.
        changed: what has changed since an earlier prediction; predict only where a leader has. None for everything.
    """
    who = np.flatnonzero(leaders)
    rows = np.flatnonzero(wanted.any(axis=1))
    nothing = Predictions(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3)))
    if len(who) < FEWEST or len(rows) == 0:
        return nothing
    start = xyz[:, 0]
    apart = lengths(start[rows, None] - start[who])
    apart[rows[:, None] == who] = np.inf
    order = np.argsort(apart, axis=1)[:, :neighbours]
    close = np.take_along_axis(apart, order, axis=1) < reach
    asked = wanted[rows]
    if changed is not None:
        asked = asked & (changed[who[order]] & close[..., None]).any(axis=1)
    row, step = np.nonzero(asked)
    leader = who[order[row]]  # N n
    usable = close[row] & valid[leader, step[:, None]]
    enough = usable.sum(axis=1) >= FEWEST
    row, step, leader, usable = row[enough], step[enough], leader[enough], usable[enough]
    if len(row) == 0:
        return nothing
    # Coordinates are the first axis: sums over long rows are faster than over rows of three.
    flat = np.ascontiguousarray(xyz.reshape(-1, 3).T)
    place = leader * xyz.shape[1]
    before, after = flat.take(place, axis=1), np.where(usable, flat.take(place + step[:, None], axis=1), 0)
    rotation, shift, spread = fit_rigid(before, after, usable)
    off = _residual(before, after, rotation, shift)
    trimmed = usable & (off < max(OUTLIER, 2 * agree))
    again = np.flatnonzero((trimmed != usable).any(axis=1))
    if len(again):
        anew = before[:, again], after[:, again]
        rotation[again], shift[again], spread[again] = fit_rigid(*anew, trimmed[again])
        off[again] = _residual(*anew, rotation[again], shift[again])
    count = trimmed.sum(axis=1)
    squares = np.where(trimmed, off**2, 0).sum(axis=1)
    good = (count >= FEWEST) & (squares <= agree**2 * count) & (spread > THINNEST * count)
    point = rows[row]
    there = (rotation @ start[point][..., None])[..., 0] + shift
    return Predictions(point[good], step[good], there[good])


def lengths(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    """As ``np.linalg.norm`` over the last axis, which is slow for so short an axis."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.sqrt(x * x + y * y + z * z)


def fit_rigid(
    before: Float[np.ndarray, "3 N n"], after: Float[np.ndarray, "3 N n"], used: Bool[np.ndarray, "N n"]
) -> tuple[Float[np.ndarray, "N 3 3"], Float[np.ndarray, "N 3"], Float[np.ndarray, " N"]]:
    """Least-squares rotations and shifts with ``after = rotation @ before + shift``, over the points used.

    Returns:
        Rotation, shift, and approximately the second singular value of the covariance: near 0 for collinear points.
    """
    weight = used.astype(np.float64)
    count = np.maximum(used.sum(axis=1), 1)
    centre, target = ((p * weight).sum(axis=2) / count for p in (before, after))
    from_centre, from_target = ((p - c[..., None]) * weight for p, c in ((before, centre), (after, target)))
    covariance = np.einsum("ink,jnk->nij", from_target, from_centre)
    squares = (np.einsum("ink,ink->n", p, p) for p in (from_centre, from_target))
    size = np.maximum(np.sqrt(math.prod(squares)), TINY)
    rotation, spread = _best_rotation(covariance / size[:, None, None])
    return rotation, target.T - np.einsum("nij,jn->ni", rotation, centre), size * spread


def _best_rotation(b: Float[np.ndarray, "N 3 3"]) -> tuple[Float[np.ndarray, "N 3 3"], Float[np.ndarray, " N"]]:
    """Rotations R that maximise trace(R' b): the fast optimal attitude matrix (Markley 1993).

    Evaluating polynomials for all N at once takes a tenth of the time of N singular value decompositions.

    Args:
        b: covariances, divided by the product of both point sets' root sums of squares, so that the trace is 1 at most.

    Returns:
        Rotation (identity where b does not determine it), and |adj b| / |b|, which is the second singular value up to a
        factor of 0.7 to 1.4.
    """
    after, before = np.array([1, 2, 0]), np.array([2, 0, 1])
    low, high = b[:, after], b[:, before]
    cofactors = low[:, :, after] * high[:, :, before] - low[:, :, before] * high[:, :, after]
    determinant = (b[:, 0] * cofactors[:, 0]).sum(axis=1)
    squares, cofactor_squares = (np.einsum("nij,nij->n", m, m) for m in (b, cofactors))
    trace = np.ones(len(b))  # the maximum of trace(R' b), found by Newton's method from above
    for _ in range(NEWTON):
        above = trace * trace - squares
        slope = 4 * trace * above - 8 * determinant
        value = above * above - 8 * trace * determinant - 4 * cofactor_squares
        step = np.divide(value, slope, out=np.zeros_like(value), where=slope > TINY)
        trace = trace - step
        if np.abs(step).max(initial=0) < CLOSE:
            break
    half = (trace * trace - squares) / 2
    scale = half * trace - determinant
    known = scale > TINY
    turned = (half + squares)[:, None, None] * b + trace[:, None, None] * cofactors - b @ b.swapaxes(1, 2) @ b
    rotation = np.where(known[:, None, None], turned / np.where(known, scale, 1)[:, None, None], np.eye(3))
    return rotation, np.sqrt(cofactor_squares / np.maximum(squares, TINY))


def _residual(
    before: Float[np.ndarray, "3 N n"],
    after: Float[np.ndarray, "3 N n"],
    rotation: Float[np.ndarray, "N 3 3"],
    shift: Float[np.ndarray, "N 3"],
) -> Float[np.ndarray, "N n"]:
    x, y, z = before
    squares = np.zeros(x.shape)
    for axis in range(3):
        a, b, c = rotation[:, axis].T[..., None]
        off = a * x + b * y + c * z + (shift[:, axis, None] - after[axis])
        squares += off * off
    return np.sqrt(squares)
