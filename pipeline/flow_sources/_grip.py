"""How a thing settles in a hand that lifts it: it turns or slides for a few steps, and is rigid with the hand after.

The hand's motion is then off by the same small motion at all later steps. That is fitted to depth, to all of them at
once and to all pixels that the thing had in the reference frame (projective point-to-plane registration, Blais and
Levine 1995).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from pipeline.flow_sources._body_motion import BodyMotion
from pipeline.flow_sources._holding import Hold
from pipeline.flow_sources._point_evidence import WindowViewer
from pipeline.vision.poses import poses_between
from pipeline.vision.rigid_motion import lengths
from schemas.cameras import project

SETTLES = 4
"""Steps in which a thing settles."""
FEWEST = 40
"""Pixels from which its motion is fitted."""
LOOKS, ROUNDS = 8, 25
"""Steps at which it is compared with depth, at most, and rounds of the fit."""
GATE, TIGHT, NARROWS = 0.04, 0.012, 0.85
"""Metres between a place and the surface up to which they are taken for each other: at first and at last, and from a
round to the next."""
STEEP = 0.02
"""Metres of depth from one pixel to the next that are an edge."""
PRIOR, AT_FIRST, FADES = np.array([2e-5, 2e-5, 2e-5, 2e-3, 2e-3, 2e-3]), 10, 0.75
"""How much no turn (m2/rad2) and no shift are expected, for each pixel: round things turn unseen. At first so many
times as much, which fades from a round to the next."""
FARTHEST, TURN = 0.05, 0.7
"""Metres and radians by which nothing settles."""
DENIED, EXPLAINED = 0.25, 0.2
"""Share of what depth tells from which on it denies the hand's own motion, and up to which it may deny another."""


def settled(viewer: WindowViewer, body: BodyMotion, hold: Hold, places: Float[np.ndarray, "N 3"]) -> BodyMotion | None:
    """The motion of what a hand holds, where it settles in the hand.

    Args:
        viewer: looks at depth.
        body: the hand's motion.
        hold: when it holds something.
        places: of what it holds, at the step after which it does, metres in the reference camera.

    Returns:
        None where depth does not deny the hand's own motion, or nothing else explains it.
    """
    import cv2

    steps = np.arange(hold.since + SETTLES, hold.until + 1)
    if len(places) < FEWEST or len(steps) < 2:
        return None
    denied = _denied(viewer, body, hold, places, steps)
    if denied < DENIED:
        return None
    looks = steps[np.unique(np.linspace(0, len(steps) - 1, LOOKS).round().astype(int))]
    turn = body.rotation @ body.rotation[hold.since].T
    shift = body.shift - turn @ body.shift[hold.since]
    rotation, move = _fit(viewer, places, turn[looks], shift[looks], looks)
    if np.linalg.norm(cv2.Rodrigues(rotation)[0]) > TURN or np.linalg.norm(move) > FARTHEST:
        return None
    found = _settling(body, hold, (turn, shift), (rotation, move), places.mean(axis=0))
    return found if _denied(viewer, found, hold, places, steps) < min(EXPLAINED, denied / 2) else None


def _denied(
    viewer: WindowViewer, body: BodyMotion, hold: Hold, places: Float[np.ndarray, "N 3"], steps: Int[np.ndarray, " L"]
) -> float:
    """Share of the places and steps of which depth tells that it contradicts, if they move with a body."""
    placed = viewer.held(body, places, *hold.of(len(places)), sure=True)
    told = np.count_nonzero((placed.agree | placed.contradicted)[:, steps])
    return np.count_nonzero(placed.contradicted[:, steps]) / max(told, 1)


def _fit(
    viewer: WindowViewer,
    places: Float[np.ndarray, "N 3"],
    turn: Float[np.ndarray, "L 3 3"],
    shift: Float[np.ndarray, "L 3"],
    looks: Int[np.ndarray, " L"],
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """The turn about the middle of some places, and the shift, before a hand's motion, by which depth agrees best, by
    Gauss-Newton with Tukey's weights.

    Args:
        turn, shift: the hand's motion to each of the looks.
    """
    import cv2

    depth, middle = viewer.depth[viewer.frames[looks]], places.mean(axis=0)
    rotation, move = np.eye(3), np.zeros(3)
    for number in range(ROUNDS):
        gate = max(GATE * NARROWS**number, TIGHT)
        arm = (places - middle) @ rotation.T
        at = np.einsum("lij,nj->lni", turn, arm + middle + move) + shift[:, None]
        off, normal = _surface_off(depth, viewer.cameras.intrinsics, at)
        with np.errstate(invalid="ignore"):
            look, place = np.nonzero(np.abs(off) < gate)
        if len(look) < FEWEST:
            break
        off, pull = off[look, place], np.einsum("nij,ni->nj", turn[look], normal[look, place])
        weight = (1 - (off / gate) ** 2) ** 2
        jacobian = np.concatenate([np.cross(arm[place], pull), pull], axis=1)
        held = weight.sum() * PRIOR * max(AT_FIRST * FADES**number, 1)
        so_far = np.concatenate([cv2.Rodrigues(rotation)[0][:, 0], move])
        normals = jacobian.T @ (weight[:, None] * jacobian) + np.diag(held)
        change = np.linalg.solve(normals, -jacobian.T @ (weight * off) - held * so_far)
        rotation, move = cv2.Rodrigues(change[:3])[0] @ rotation, move + change[3:]
    return rotation, move


def _surface_off(
    depth: Float[np.ndarray, "L H W"], intrinsics: Float[np.ndarray, "3 3"], at: Float[np.ndarray, "L N 3"]
) -> tuple[Float[np.ndarray, "L N"], Float[np.ndarray, "L N 3"]]:
    """Distances in metres of places from the surface that depth shows where they are seen, and how they change with the
    place; NaN outside the image and at edges of depth.
    """
    height, width = depth.shape[1:]
    seen = project(at, intrinsics)
    with np.errstate(invalid="ignore"):
        inside = ((seen[..., :2] >= 1) & (seen[..., :2] < (width - 1, height - 1))).all(axis=-1)
    column, row = (np.where(inside, seen[..., axis], 1).astype(int) for axis in (0, 1))
    look = np.arange(len(depth))[:, None]
    across = (depth[look, row, column + 1] - depth[look, row, column - 1]) / 2
    down = (depth[look, row + 1, column] - depth[look, row - 1, column]) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        inside &= (np.abs(across) < STEEP) & (np.abs(down) < STEEP)
        x, y = across * intrinsics[0, 0] / at[..., 2], down * intrinsics[1, 1] / at[..., 2]
        normal = np.stack([x, y, -1 - (x * at[..., 0] + y * at[..., 1]) / at[..., 2]], axis=-1)
        size = lengths(normal)
        off = np.where(inside, (depth[look, row, column] - at[..., 2]) / size, np.nan)
    return off, normal / size[..., None]


def _settling(
    body: BodyMotion,
    hold: Hold,
    moved: tuple[Float[np.ndarray, "S 3 3"], Float[np.ndarray, "S 3"]],
    sits: tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]],
    middle: Float[np.ndarray, " 3"],
) -> BodyMotion:
    """A hand's motion with another before it, which it comes to step by step.

    Args:
        moved: turn and shift of the hand since the hold began, at every step.
        sits: a turn about ``middle`` and a shift.
    """
    steps = np.arange(hold.since + 1, len(body.rotation))
    ends = np.tile(np.eye(4), (2, 1, 1))
    ends[1, :3, :3], ends[1, :3, 3] = sits
    settling = poses_between(ends, np.minimum((steps - hold.since) / SETTLES, 1.0))
    first = settling[:, :3, :3]
    then = middle + settling[:, :3, 3] - first @ middle
    turn, shift = (part[steps] for part in moved)
    rotations, shifts = body.rotation.copy(), body.shift.copy()
    rotations[steps] = turn @ first @ body.rotation[hold.since]
    shifts[steps] = np.einsum("sij,sj->si", turn, first @ body.shift[hold.since] + then) + shift
    return replace(body, rotation=rotations, shift=shifts)
