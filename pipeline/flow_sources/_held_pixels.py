"""Pixels near a hand that takes something: which of them show what it holds.

Keypoints on a small thing are few, and one that the hand covers while it takes the thing is never seen to leave. Pixels
of the reference frame are many: what depth shows to have left its start, and to be where the hand takes it, is held;
what stays in its place is not. A point goes with most of those around it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.flow_sources._body_motion import BodyMotion
from pipeline.flow_sources._holding import Carrier, Hold
from pipeline.flow_sources._point_evidence import WindowViewer
from pipeline.vision.rigid_motion import lengths
from schemas.cameras import lift

SPACING = 2
"""Pixels from one that is asked to the next."""
TOUCH = 0.012
"""Metres from the robot within which a pixel shows it."""
LEAVES = 2
"""Steps at which depth must show that a pixel's surface has left, or is where the hand takes it."""
TOLD, FAR = 0.01, 0.05
"""Metres by which it must have moved for a step to tell that it has left, and that it has not: part of a thing that
slides along itself is followed by the rest."""
AROUND, FEWEST, MOST_OF = 0.025, 6, 0.75
"""Metres within which pixels speak for a point, how many must be held, and what share of those that tell."""


@dataclass(frozen=True)
class NearHand:
    """Pixels of the reference frame near a hand when it takes something.

    Attributes:
        places: metres in the reference camera.
        behind: by how many metres depth is farther at each step than it was at first.
    """

    places: Float[np.ndarray, "N 3"]
    behind: Float[np.ndarray, "S N"]


def near_hand(viewer: WindowViewer, hand: Carrier, hold: Hold, reach: float) -> NearHand:
    """Pixels within ``reach`` metres of the hand."""
    height, width = viewer.depth.shape[1:]
    row, column = (a.ravel() for a in np.mgrid[:height:SPACING, :width:SPACING])
    begin = viewer.frames[:, None] * (height * width)
    first = viewer.depth.take(begin[0] + row * width + column)
    places = lift(np.stack([column + 0.5, row + 0.5, first], axis=-1), viewer.cameras.intrinsics)
    middle = hand.body.carry(hand.middle[None], np.zeros(1, int))[0, hold.since]
    with np.errstate(invalid="ignore"):
        near = np.flatnonzero(lengths(places - middle) < reach)
    behind = viewer.depth.take(begin + (row * width + column)[near]) - first[near]
    return NearHand(places[near], behind)


def leaving(near: NearHand, hand: Carrier, hold: Hold, match: float) -> Float[np.ndarray, "L 3"]:
    """Places, not on the robot, whose surface leaves while something is held, and not before.

    Args:
        match: metres by which depth must be farther.
    """
    with np.errstate(invalid="ignore"):
        away = near.behind >= match
    before, after = away[: hold.since + 1].any(axis=0), away[hold.since + 1 :].sum(axis=0)
    places = near.places[~before & (after >= LEAVES)]
    if not len(places):
        return places
    low, high = places.min(axis=0) - TOUCH, places.max(axis=0) + TOUCH
    robot = hand.surface[((hand.surface > low) & (hand.surface < high)).all(axis=1)]
    squares = (places**2).sum(axis=1)[:, None] - 2 * places @ robot.T + (robot**2).sum(axis=1)
    return places[squares.min(axis=1, initial=np.inf) > TOUCH**2]


def held_around(
    viewer: WindowViewer, near: NearHand, body: BodyMotion, hold: Hold, start: Float[np.ndarray, "P 3"]
) -> Bool[np.ndarray, " P"]:
    """Whether most of what is around points goes with the hand.

    Args:
        body: the motion of what it holds.
        start: of the points, metres in the reference camera.
    """
    placed = viewer.held(body, near.places, *hold.of(len(near.places)), sure=True)
    moved = lengths(placed.xyz - near.places[:, None])
    with np.errstate(invalid="ignore"):
        away, same = viewer.match <= near.behind.T, np.abs(near.behind.T) < viewer.match
    gone, stays = (away & (moved > TOLD)).sum(axis=1), (same & (moved > FAR)).sum(axis=1)
    agreed, refused = (((a & (moved > TOLD)).sum(axis=1)) for a in (placed.agree, placed.contradicted))
    held = (agreed >= LEAVES) & (refused == 0) & (gone >= LEAVES) & (gone > stays)
    others = (stays >= LEAVES) & (stays > gone) & ~held
    for_it, against = (_around(start, near.places[which]) for which in (held, others))
    return (for_it >= FEWEST) & (for_it >= MOST_OF * (for_it + against))


def _around(start: Float[np.ndarray, "P 3"], places: Float[np.ndarray, "N 3"]) -> Int[np.ndarray, " P"]:
    return (lengths(start[:, None] - places) < AROUND).sum(axis=1)
