"""Speed retargeting: resample flow to equal steps of distance instead of time, so that it does not depend on a robot's
speed or pauses.

All points of a window are resampled at the same new times, so the scene stays consistent. The window's distance is
that of the few points that move farthest; the others may stand still. Samples store the raw flow; this is a pure
function of it.
"""

import numpy as np
from jaxtyping import Bool, Float

from schemas.cameras import lift
from schemas.scene_flow import SceneFlow

LEADERS = 0.02
"""Share of the points whose distance is used: those that move farthest."""
ROUNDING = 1e-6
"""In steps; a time closer than this to a step is rounded to it."""
LEAST = 1e-3
"""Minimum distance moved, in metres (or the unit of relative depth); below it nothing is retargeted."""


def retarget(flow: SceneFlow, intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> SceneFlow:
    """Resample flow so that the points that move farthest cover the same distance in each step. Paths, start and end
    stay the same.

    Steps after the episode's end are unchanged; a window without motion is returned unchanged.

    Args:
        flow: raw, in steps of equal time.
        intrinsics: of the reference camera, in px.
        size: (width, height) of its image in px.
    """
    times = retargeted_times(flow, intrinsics, size)
    if times is None:
        return flow
    last = len(times) - 1
    made = flow.at(times)
    uvz, visible, valid = flow.uvz.copy(), flow.visible.copy(), flow.valid.copy()
    uvz[:, : last + 1] = _held(made)
    visible[:, : last + 1], valid[:, : last + 1] = made.visible, made.valid
    uvz[:, last + 1 :] = uvz[:, last : last + 1]
    return SceneFlow(uvz, visible, valid)


def retargeted_times(
    flow: SceneFlow, intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]
) -> Float[np.ndarray, " N"] | None:
    """Time of each new step in the raw flow, in steps; N - 1 is the last step within the episode. None where nothing
    moves.
    """
    known = np.flatnonzero(flow.valid.any(axis=0))
    last = int(known[-1]) if len(known) else 0
    if last < 1:
        return None
    distance = step_lengths(flow, intrinsics, size)[:last]
    total = distance.sum()
    if total < LEAST:
        return None
    reached = np.concatenate([[0.0], np.cumsum(distance)]) / total * last
    wanted = np.arange(last + 1.0)
    # The first time at which the distance is reached: at a pause, its start.
    after = np.minimum(np.searchsorted(reached, wanted - ROUNDING, side="left"), last)
    before = np.maximum(after - 1, 0)
    stretch = reached[after] - reached[before]
    share = np.divide(wanted - reached[before], stretch, out=np.zeros_like(wanted), where=stretch > 0)
    times = np.where(after == 0, 0, before + np.clip(share, 0, 1))
    whole = np.rint(times)
    return np.where(np.abs(times - whole) < ROUNDING, whole, times)


def step_lengths(
    flow: SceneFlow, intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]
) -> Float[np.ndarray, " T"]:
    """Mean distance that the leaders move in each step, over those that are valid at both of its ends."""
    xyz = lift(flow.uvz * [*size, 1], intrinsics)
    known: Bool[np.ndarray, "K T"] = flow.valid[:, 1:] & flow.valid[:, :-1]
    moved = np.where(known, np.linalg.norm(np.diff(xyz, axis=1), axis=-1), 0)
    count = max(int(np.ceil(LEADERS * len(moved))), 1)
    leaders = np.argsort(-moved.sum(axis=1), kind="stable")[:count]
    return moved[leaders].sum(axis=0) / np.maximum(known[leaders].sum(axis=0), 1)


def _held(flow: SceneFlow) -> Float[np.ndarray, "K S 3"]:
    """Positions; invalid ones are replaced by the last valid one."""
    latest = np.maximum.accumulate(np.where(flow.valid, np.arange(flow.valid.shape[1]), 0), axis=1)
    return np.take_along_axis(flow.uvz, latest[..., None], axis=1)
