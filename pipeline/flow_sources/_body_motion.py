"""Finds the rigid bodies that move in a window, from its surest tracks, and their motion at every step.

Points of one rigid body keep all distances in 3D. Tracks that do so over the whole window are grouped, the largest
group first, and each group's motion is fitted at every step by least squares. A body's motion holds for every point on
it, also where no track was found: inside, at the rim, and where there is no texture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.vision.rigid_motion import FEWEST, OUTLIER, THINNEST, fit_rigid, lengths

MOST = 6
"""Bodies of a window at most."""
SPARSE = 4
"""Steps from one at which distances are compared to the next."""
TOGETHER = 3
"""Compared steps that two tracks must share."""
MOVED = 0.005
"""Metres from where a body started to move that tell whether a track moves with it."""
ROUNDS = 2
"""How often a group's motion is fitted and its members are chosen anew."""


@dataclass(frozen=True)
class BodyMotion:
    """The motion of one rigid body from step 0 to s, in the reference camera: ``x_s = rotation_s x_0 + shift_s``.

    Attributes:
        members: the tracks that move with it.
        known: whether its motion at that step is known.
        rotation: identity where it is not known.
        shift: metres.
    """

    members: Int[np.ndarray, " m"]
    known: Bool[np.ndarray, " S"]
    rotation: Float[np.ndarray, "S 3 3"]
    shift: Float[np.ndarray, "S 3"]

    def carry(self, xyz: Float[np.ndarray, "P 3"], since: Int[np.ndarray, " P"]) -> Float[np.ndarray, "P S 3"]:
        """Positions at every step of points that are on the body and are at ``xyz`` at step ``since``."""
        start = np.einsum("pji,pj->pi", self.rotation[since], xyz - self.shift[since])
        return np.einsum("sij,pj->psi", self.rotation, start) + self.shift


def find_bodies(
    xyz: Float[np.ndarray, "M S 3"], valid: Bool[np.ndarray, "M S"], reach: float, stretch: float, agree: float
) -> Iterator[BodyMotion]:
    """The bodies of a window, the one with the most tracks first.

    Args:
        xyz: positions of tracks that move, in the camera of the reference frame; only valid ones are used.
        reach: metres between a track and the nearest other one of the same body, at step 0.
        stretch: metres by which a distance on one body may change.
        agree: largest root mean square error in metres of a body's fit at a step.
    """
    if len(xyz) < FEWEST:
        return
    rigid, apart = _rigid_pairs(xyz, valid, reach, stretch)
    near = apart < reach
    free = np.ones(len(xyz), bool)
    for _ in range(MOST):
        count = (rigid & free & free[:, None]).sum(axis=1)
        seed = int(count.argmax())
        if count[seed] < FEWEST - 1:
            return
        members = rigid[seed] & free
        members[seed] = True
        body = None
        for _ in range(ROUNDS):
            body, off = _fit(xyz, valid, members, agree)
            joined = free & (off < stretch) & (near & members).any(axis=1)
            if np.count_nonzero(joined) < FEWEST:
                body = None
                break
            members = joined
        free[seed] = False
        free &= ~members
        if body is not None and body.known[1:].any():
            yield body


def _rigid_pairs(
    xyz: Float[np.ndarray, "M S 3"], valid: Bool[np.ndarray, "M S"], reach: float, stretch: float
) -> tuple[Bool[np.ndarray, "M M"], Float[np.ndarray, "M M"]]:
    """Which tracks keep their distance, and the distances at step 0."""
    points = np.ascontiguousarray(xyz[:, ::SPARSE].transpose(1, 2, 0), np.float32)  # steps, axes, tracks
    there = valid[:, ::SPARSE].T
    squares = np.zeros((len(points), len(xyz), len(xyz)), np.float32)
    for axis in range(3):
        squares += (points[:, axis, :, None] - points[:, axis, None]) ** 2
    distance = np.sqrt(squares, out=squares)
    apart = distance[0].astype(np.float64)
    both = there[:, :, None] & there[:, None]
    off = np.where(both, np.abs(distance - distance[0]), 0).max(axis=0)
    rigid = (off < stretch) & (both.sum(axis=0) > TOGETHER) & (apart < reach)
    np.fill_diagonal(rigid, False)
    return rigid, apart


def _fit(
    xyz: Float[np.ndarray, "M S 3"], valid: Bool[np.ndarray, "M S"], members: Bool[np.ndarray, " M"], agree: float
) -> tuple[BodyMotion, Float[np.ndarray, " M"]]:
    """The motion of some tracks as one body, and how far every track is from it on average; infinite where they are
    never seen together."""
    who = np.flatnonzero(members)
    after = np.ascontiguousarray(xyz[who].transpose(2, 1, 0))  # axes, steps, tracks
    before = np.repeat(after[:, :1], after.shape[1], axis=1)
    used = valid[who].T & valid[who, 0]
    rotation, shift, _ = fit_rigid(before, after, used)
    off = np.linalg.norm(np.einsum("sij,jsk->isk", rotation, before) + shift.T[..., None] - after, axis=0)
    trimmed = used & (off < max(OUTLIER, 2 * agree))
    rotation, shift, spread = fit_rigid(before, after, trimmed)
    off = np.linalg.norm(np.einsum("sij,jsk->isk", rotation, before) + shift.T[..., None] - after, axis=0)
    count = trimmed.sum(axis=1)
    squares = np.where(trimmed, off**2, 0).sum(axis=1)
    known = (count >= FEWEST) & (squares <= agree**2 * count) & (spread > THINNEST * count)
    rotation[~known], shift[~known] = np.eye(3), 0
    body = BodyMotion(who, known, rotation, shift)
    carried = body.carry(xyz[:, 0], np.zeros(len(xyz), int))
    moved = lengths(carried - xyz[:, :1]) > MOVED
    seen = valid & known & (np.arange(valid.shape[1]) > 0)
    seen &= moved | ~(moved & seen).any(axis=1, keepdims=True)
    total = seen.sum(axis=1)
    mean = np.divide(
        np.where(seen, lengths(carried - xyz), 0).sum(axis=1),
        total,
        out=np.full(len(xyz), np.inf),
        where=total > 0,
    )
    return body, mean
