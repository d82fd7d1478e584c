"""The rigid motion between two cameras, from points with depth that are matched in both.

Some points lie on moving things or were tracked badly. So poses are proposed from three points each (RANSAC), the one
whose inliers cover the largest area of the world is chosen (``_corners``), and it is refined on all inliers.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.vision.depth_noise import TO_DEVIATION
from pipeline.vision.rigid_motion import fit_rigid
from schemas.cameras import lift, project, transform

PROPOSALS = 96
REFINEMENTS = 5
AGREES = 3.0
"""Largest residual of an inlier, in standard deviations."""
THINNEST = 1e-9
"""Three points on a line propose nothing: the second singular value of their covariance, as a share of their squared
depth.
"""


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the measurements.

    Attributes:
        px: of a point's position in the image.
        depth: of its depth, as a share of the depth.
    """

    px: float
    depth: float


FINEST = Noise(0.05, 0.0005)
"""Lower bound of the estimated noise."""


@dataclass(frozen=True)
class Sighting:
    """Points of one camera seen by another.

    Attributes:
        uvz: in the first camera: u px, v px, depth.
        seen: the same in the second.
        weight: of each point when poses are compared.
    """

    uvz: Float[np.ndarray, "N 3"]
    seen: Float[np.ndarray, "N 3"]
    weight: Float[np.ndarray, " N"]


def find_motion(
    sighting: Sighting, intrinsics: Float[np.ndarray, "3 3"], noise: Noise, hints: Float[np.ndarray, "P 4 4"]
) -> tuple[Float[np.ndarray, "4 4"], Bool[np.ndarray, " N"], float]:
    """The pose ``second_from_first`` whose inliers have the largest weight, those inliers, and their share of the
    weight.

    The same input gives the same pose: proposals are drawn with a fixed seed.

    Args:
        hints: poses to try besides the proposed ones.
    """
    first, second = lift(sighting.uvz, intrinsics), lift(sighting.seen, intrinsics)
    proposals = np.concatenate([hints, _propose(first, second)])
    errors = misfit(proposals, first, sighting.seen, intrinsics, noise)
    support = (np.maximum(1 - errors / AGREES**2, 0) * sighting.weight).sum(axis=1)
    pose = proposals[int(np.argmax(support))]
    pose = _refined(pose, first, sighting.seen, intrinsics, noise)
    agree = misfit(pose[None], first, sighting.seen, intrinsics, noise)[0] < AGREES**2
    if agree.sum() > 2:  # refit without the outliers, which have biased the fit a little
        pose = _refined(pose, first[agree], sighting.seen[agree], intrinsics, noise)
    left, _, right = np.linalg.svd(pose[:3, :3])  # back to a rotation: rounding errors would grow from frame to frame
    pose[:3, :3] = left @ right
    agree = misfit(pose[None], first, sighting.seen, intrinsics, noise)[0] < AGREES**2
    return pose, agree, float(sighting.weight[agree].sum() / sighting.weight.sum())


def _refined(pose, first, seen, intrinsics, noise: Noise) -> Float[np.ndarray, "4 4"]:
    for _ in range(REFINEMENTS):
        normal, gradient = normal_equations(pose, first, seen, intrinsics, noise)
        pose = pose @ exponential(-np.linalg.solve(normal + 1e-9 * np.eye(6), gradient))
    return pose


def misfit(
    poses: Float[np.ndarray, "P 4 4"],
    first: Float[np.ndarray, "N 3"],
    seen: Float[np.ndarray, "N 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    noise: Noise,
) -> Float[np.ndarray, "P N"]:
    """Squared distance, in standard deviations, between where poses project points (metres) and where they are seen;
    infinite for points behind the camera.
    """
    found = project(transform(poses[:, None], first), intrinsics)
    scale = _scale(seen, noise)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num((((found - seen) * scale) ** 2).sum(axis=-1), nan=np.inf)


def residuals_of(
    pose: Float[np.ndarray, "4 4"],
    first: Float[np.ndarray, "N 3"],
    seen: Float[np.ndarray, "N 3"],
    intrinsics: Float[np.ndarray, "3 3"],
) -> Float[np.ndarray, "N 3"]:
    """Reprojection residuals of points (metres) under a pose: px, px, share of depth; NaN behind the camera."""
    off = project(transform(pose, first), intrinsics) - seen
    off[:, 2] /= seen[:, 2]
    return off


def noise_shown(residuals: Float[np.ndarray, "N 3"], given: Noise) -> Noise:
    """The noise estimated from the median of residuals, which ignores a few outliers; never more than ``given``."""
    px, py, depth = TO_DEVIATION * np.nanmedian(np.abs(residuals), axis=0)
    return Noise(min(given.px, max(float(px), float(py), FINEST.px)), min(given.depth, max(float(depth), FINEST.depth)))


def normal_equations(
    pose: Float[np.ndarray, "4 4"],
    first: Float[np.ndarray, "N 3"],
    seen: Float[np.ndarray, "N 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    noise: Noise,
) -> tuple[Float[np.ndarray, "6 6"], Float[np.ndarray, " 6"]]:
    """Gauss-Newton's normal equations for ``pose @ exponential(step)``, with robust weights (Geman and McClure 1985).

    A step has three numbers of translation (metres) and three of rotation (radians).
    """
    there = transform(pose, first)
    found = project(there, intrinsics)
    scale = _scale(seen, noise)
    off = (found - seen) * scale
    error = (off**2).sum(axis=-1)
    with np.errstate(invalid="ignore", over="ignore"):
        trust = np.nan_to_num(1 / (1 + error / AGREES**2) ** 2)
    good = trust > 1e-6
    off, trust, scale, there, first = off[good], trust[good], scale[good], there[good], first[good]
    x, y, z = there.T
    slope = np.zeros((len(there), 3, 3))
    slope[:, 0, 0], slope[:, 0, 2] = intrinsics[0, 0] / z, -intrinsics[0, 0] * x / z**2
    slope[:, 1, 1], slope[:, 1, 2] = intrinsics[1, 1] / z, -intrinsics[1, 1] * y / z**2
    slope[:, 2, 2] = 1
    turned = (scale[:, :, None] * slope) @ pose[:3, :3]
    rows = np.concatenate([turned, -turned @ skew(first)], axis=-1)
    weighted = rows * trust[:, None, None]
    return np.einsum("nia,nib->ab", weighted, rows), np.einsum("nia,ni->a", weighted, off)


def exponential(step: Float[np.ndarray, "*n 6"]) -> Float[np.ndarray, "*n 4 4"]:
    """The pose of a translation (metres) and a rotation vector (radians), each applied by itself."""
    turn = step[..., 3:]
    angle = np.linalg.norm(turn, axis=-1)[..., None, None]
    cross = skew(turn)
    small = np.where(angle < 1e-8, 1, angle)
    sine = np.where(angle < 1e-8, 1, np.sin(angle) / small)
    cosine = np.where(angle < 1e-8, 0.5, (1 - np.cos(angle)) / small**2)
    pose = np.zeros((*step.shape[:-1], 4, 4))
    pose[..., :3, :3] = np.eye(3) + sine * cross + cosine * (cross @ cross)
    pose[..., :3, 3] = step[..., :3]
    pose[..., 3, 3] = 1
    return pose


def skew(vector: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """Matrices with ``skew(v) @ x`` = v x x."""
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return np.stack(rows, axis=-1).reshape(*vector.shape[:-1], 3, 3)


def _propose(first: Float[np.ndarray, "N 3"], second: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "P 4 4"]:
    """Candidate poses, each fitted to three points."""
    rng = np.random.default_rng(0)
    triples = rng.random((PROPOSALS, len(first))).argsort(axis=1)[:, :3]
    before, after = first.T[:, triples], second.T[:, triples]
    rotation, shift, spread = fit_rigid(before, after, np.ones(triples.shape, bool))
    poses = np.tile(np.eye(4), (PROPOSALS, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotation, shift
    return poses[spread > THINNEST * (before[2] ** 2).mean(axis=1)]


def _scale(seen: Float[np.ndarray, "N 3"], noise: Noise) -> Float[np.ndarray, "N 3"]:
    """One over the standard deviation of each number."""
    px = np.full(len(seen), 1 / noise.px)
    return np.stack([px, px, 1 / (noise.depth * seen[:, 2])], axis=-1)
