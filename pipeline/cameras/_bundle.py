"""All poses at once: a bundle of windows, each the frames that see one key frame's background."""

import numpy as np
from jaxtyping import Float

from pipeline.cameras._alignment import Noise, exponential, noise_shown, normal_equations, residuals_of, skew
from pipeline.cameras._keyframes import Link, Placed
from schemas.cameras import invert_pose, lift

ROUNDS = 5
STILL = 1e-7
"""Metres and radians below which a round has changed nothing."""


def refine(placed: Placed, intrinsics: Float[np.ndarray, "3 3"], noise: Noise) -> Float[np.ndarray, "T 4 4"]:
    """The poses that fit all links together, by Gauss-Newton; the first camera stays the world.

    A frame that is no key frame is tied to key frames only, so it is eliminated, and what is solved is as large as the key
    frames are many.
    """
    poses = placed.world_from_camera.copy()
    first = [lift(link.sighting.uvz, intrinsics) for link in placed.links]
    others = np.setdiff1d(np.arange(len(poses)), placed.keys)
    if len(placed.keys) + len(others) < 2:
        return poses
    place = np.full(len(poses), -1)
    place[placed.keys], place[others] = np.arange(len(placed.keys)), np.arange(len(others))
    is_key = np.isin(np.arange(len(poses)), placed.keys)
    for _ in range(ROUNDS):
        noise = _noise_found(placed, poses, first, intrinsics, noise)
        among, across, own, pull_keys, pull_others = _system(placed, poses, first, intrinsics, noise, place, is_key)
        steps_keys, steps_others = _solve(among, across, own, pull_keys, pull_others)
        poses[placed.keys] = poses[placed.keys] @ exponential(steps_keys)
        poses[others] = poses[others] @ exponential(steps_others)
        if max(np.abs(steps_keys).max(initial=0), np.abs(steps_others).max(initial=0)) < STILL:
            break
    return poses


def _noise_found(placed: Placed, poses, first, intrinsics, noise: Noise) -> Noise:
    """The noise that the links show, from the median of their residuals; never more than was taken for granted."""
    residuals = []
    for link, points in zip(placed.links, first, strict=True):
        motion = invert_pose(poses[link.frame]) @ poses[placed.keys[link.key]]
        residuals.append(residuals_of(motion, points, link.sighting.seen, intrinsics))
    return noise_shown(np.concatenate(residuals), noise)


def _system(placed: Placed, poses, first, intrinsics, noise: Noise, place, is_key):
    """Normal equations in blocks: key frames among themselves, others across to key frames, others themselves."""
    keys, others = int(is_key.sum()), int((~is_key).sum())
    among, across, own = np.zeros((keys, keys, 6, 6)), np.zeros((others, keys, 6, 6)), np.zeros((others, 6, 6))
    pull_keys, pull_others = np.zeros((keys, 6)), np.zeros((others, 6))
    for link, points in zip(placed.links, first, strict=True):
        block, pull, back = _equations(link, placed.keys[link.key], poses, points, intrinsics, noise)
        among[link.key, link.key] += block
        pull_keys[link.key] += pull
        mixed = -back.T @ block  # rows of the frame, columns of the key frame
        here = place[link.frame]
        if is_key[link.frame]:
            among[here, here] += back.T @ block @ back
            among[here, link.key] += mixed
            among[link.key, here] += mixed.T
            pull_keys[here] -= back.T @ pull
        else:
            own[here] += back.T @ block @ back
            across[here, link.key] += mixed
            pull_others[here] -= back.T @ pull
    return among, across, own, pull_keys, pull_others


def _equations(link: Link, key_frame: int, poses, points, intrinsics, noise: Noise):
    """Block and gradient for the key frame's step, and the matrix that turns the frame's step into minus that one."""
    motion = invert_pose(poses[link.frame]) @ poses[key_frame]
    block, pull = normal_equations(motion, points, link.sighting.seen, intrinsics, noise)
    inverse = invert_pose(motion)
    back = np.zeros((6, 6))
    back[:3, :3] = back[3:, 3:] = inverse[:3, :3]
    back[:3, 3:] = skew(inverse[:3, 3]) @ inverse[:3, :3]
    return block, pull, back


def _solve(among, across, own, pull_keys, pull_others):
    """Steps of key frames (the first stands still) and of the others."""
    keys, others = len(among), len(own)
    inverse = np.linalg.inv(own + 1e-9 * np.eye(6))
    wide = across.transpose(0, 2, 1, 3).reshape(others, 6, keys * 6)  # frame's rows, key frames' columns
    gain = inverse @ wide
    matrix = among.transpose(0, 2, 1, 3).reshape(keys * 6, keys * 6) - np.einsum(
        "fia,fib->ab", wide, gain, optimize=True
    )
    right = pull_keys.ravel() - np.einsum("fia,fi->a", gain, pull_others)
    steps = np.zeros(keys * 6)
    if keys > 1:
        free = matrix[6:, 6:] + 1e-9 * np.eye(keys * 6 - 6)
        steps[6:] = -np.linalg.solve(free, right[6:])
    rest = -np.einsum("fij,fj->fi", inverse, pull_others) - gain @ steps
    return steps.reshape(keys, 6), rest
