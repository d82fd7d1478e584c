"""Bundle adjustment: refines all poses together, from the links between key frames and the frames that see their
background.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pipeline.cameras._keyframe_tracking import ALIVE, Link, Placed
from pipeline.cameras._ransac_pose import Noise, exponential, noise_shown, normal_equations, residuals_of, skew
from schemas.cameras import invert_pose, lift

ROUNDS = 5
STILL = 1e-7
"""Metres and radians below which a round has changed nothing."""


def refine(placed: Placed, intrinsics: Float[np.ndarray, "3 3"], noise: Noise) -> Float[np.ndarray, "T 4 4"]:
    """The poses that fit all links best, by Gauss-Newton; the first camera's frame is the world.

    Frames that are not key frames are linked to key frames only, so they are eliminated (Schur complement), and the
    system solved has one block per key frame. Each key frame is linked only to the few before it, so memory and time
    grow linearly with the clip's length, not quadratically.
    """
    poses = placed.world_from_camera.copy()
    first = [lift(uvz, intrinsics) for uvz in placed.points]
    others = np.setdiff1d(np.arange(len(poses)), placed.keys)
    if len(placed.keys) + len(others) < 2:
        return poses
    place = np.full(len(poses), -1)
    place[placed.keys], place[others] = np.arange(len(placed.keys)), np.arange(len(others))
    is_key = np.isin(np.arange(len(poses)), placed.keys)
    for _ in range(ROUNDS):
        noise = _noise_found(placed, poses, first, intrinsics, noise)
        steps_keys, steps_others = _solve(_system(placed, poses, first, intrinsics, noise, place, is_key))
        poses[placed.keys] = poses[placed.keys] @ exponential(steps_keys)
        poses[others] = poses[others] @ exponential(steps_others)
        if max(np.abs(steps_keys).max(initial=0), np.abs(steps_others).max(initial=0)) < STILL:
            break
    return poses


def _noise_found(placed: Placed, poses, first, intrinsics, noise: Noise) -> Noise:
    """The noise estimated from the median residuals of the links; never more than the given ``noise``."""
    residuals = []
    for link in placed.links:
        motion = invert_pose(poses[link.frame]) @ poses[placed.keys[link.key]]
        residuals.append(residuals_of(motion, first[link.key][link.points], link.seen, intrinsics))
    return noise_shown(np.concatenate(residuals), noise)


@dataclass
class _System:
    """Normal equations in 6 x 6 blocks; blocks that are always 0 are not stored.

    Attributes:
        among: [i, j] is the block of key frames i and i + j.
        own: diagonal blocks of the other frames.
        oldest: for each of the other frames, the number of the oldest key frame it is linked to.
        across: [f, j] is the block of frame f (rows) and key frame oldest[f] + j (columns).
        pull_keys, pull_others: gradients.
    """

    among: Float[np.ndarray, "N _ 6 6"]
    own: Float[np.ndarray, "F 6 6"]
    oldest: Int[np.ndarray, " F"]
    across: Float[np.ndarray, "F _ 6 6"]
    pull_keys: Float[np.ndarray, "N 6"]
    pull_others: Float[np.ndarray, "F 6"]


def _system(placed: Placed, poses, first, intrinsics, noise: Noise, place, is_key) -> _System:
    """The normal equations of all links."""
    keys, others = int(is_key.sum()), int((~is_key).sum())
    oldest = np.full(others, keys - 1)
    for link in placed.links:
        if not is_key[link.frame]:
            oldest[place[link.frame]] = min(oldest[place[link.frame]], link.key)
    s = _System(
        among=np.zeros((keys, ALIVE + 1, 6, 6)),
        own=np.zeros((others, 6, 6)),
        oldest=oldest,
        across=np.zeros((others, ALIVE, 6, 6)),
        pull_keys=np.zeros((keys, 6)),
        pull_others=np.zeros((others, 6)),
    )
    for link in placed.links:
        points = first[link.key][link.points]
        block, pull, back = _equations(link, placed.keys[link.key], poses, points, intrinsics, noise)
        s.among[link.key, 0] += block
        s.pull_keys[link.key] += pull
        mixed = -back.T @ block  # rows of the frame, columns of the key frame
        here = place[link.frame]
        if is_key[link.frame]:
            s.among[here, 0] += back.T @ block @ back
            s.among[link.key, here - link.key] += mixed.T
            s.pull_keys[here] -= back.T @ pull
        else:
            s.own[here] += back.T @ block @ back
            s.across[here, link.key - oldest[here]] += mixed
            s.pull_others[here] -= back.T @ pull
    return s


def _equations(link: Link, key_frame: int, poses, points, intrinsics, noise: Noise):
    """Block and gradient for the key frame's step, and the matrix that maps the frame's step to minus the key frame's
    step.
    """
    motion = invert_pose(poses[link.frame]) @ poses[key_frame]
    block, pull = normal_equations(motion, points, link.seen, intrinsics, noise)
    inverse = invert_pose(motion)
    back = np.zeros((6, 6))
    back[:3, :3] = back[3:, 3:] = inverse[:3, :3]
    back[:3, 3:] = skew(inverse[:3, 3]) @ inverse[:3, :3]
    return block, pull, back


def _solve(s: _System) -> tuple[Float[np.ndarray, "N 6"], Float[np.ndarray, "F 6"]]:
    """Steps of the key frames (the first is fixed) and of the other frames."""
    inverse = np.linalg.inv(s.own + 1e-9 * np.eye(6))
    gain = inverse[:, None] @ s.across
    among, right = s.among.copy(), s.pull_keys.copy()
    last = len(among) - 1
    tied = np.minimum(s.oldest[:, None] + np.arange(ALIVE), last)  # beyond the last one the blocks are 0
    for a in range(ALIVE):
        np.subtract.at(right, tied[:, a], np.einsum("fia,fi->fa", gain[:, a], s.pull_others))
        for b in range(a, ALIVE):
            np.subtract.at(among[:, b - a], tied[:, a], s.across[:, a].swapaxes(1, 2) @ gain[:, b])
    steps = np.zeros_like(right)
    among[:, 0] += 1e-9 * np.eye(6)
    steps[1:] = -_solve_banded(among[1:], right[1:])
    rest = -np.einsum("fij,fj->fi", inverse, s.pull_others) - np.einsum("fnij,fnj->fi", gain, steps[tied])
    return steps, rest


def _solve_banded(blocks: Float[np.ndarray, "N W 6 6"], right: Float[np.ndarray, "N 6"]) -> Float[np.ndarray, "N 6"]:
    """Solve a positive definite banded system by block elimination.

    Args:
        blocks: [i, j] is row i, column i + j; entries beyond the last column are ignored. Modified in place.
        right: modified in place.
    """
    inverse = np.empty((len(blocks), 6, 6))
    reach = [range(1, min(blocks.shape[1], len(blocks) - k)) for k in range(len(blocks))]
    for k, after in enumerate(reach):
        inverse[k] = np.linalg.inv(blocks[k, 0])
        for a in after:
            share = blocks[k, a].T @ inverse[k]
            right[k + a] -= share @ right[k]
            for b in range(a, after.stop):
                blocks[k + a, b - a] -= share @ blocks[k, b]
    for k, after in reversed([*enumerate(reach)]):
        right[k] = inverse[k] @ (right[k] - sum((blocks[k, a] @ right[k + a] for a in after), np.zeros(6)))
    return right
