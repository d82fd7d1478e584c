"""Finds when a hand holds something, from the known motion of its parts, such as palm and fingers.

Depth tells late that a held point has left its start: only where what is behind it shows. The fingers tell in time:
they have closed and stand still against each other while they hold something.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pipeline.flow_sources._body_motion import BodyMotion
from pipeline.flow_sources._point_evidence import Evidence, WindowViewer
from pipeline.vision.rigid_motion import lengths

GRIPPED = 0.0005
"""Metres a step by which parts of a hand that holds something may move against each other."""
CLOSED = 0.002
"""Metres by which parts of it are nearer then than at their farthest."""
SHORTEST, SLACK = 4, 3
"""Steps that a hold lasts at least, and steps before and after within which parts may still move, and hold it."""


@dataclass(frozen=True)
class Carrier:
    """A part of a hand, of known motion.

    Attributes:
        own: points on it, or on what carries it.
        middle: of its surface at step 0, metres in the reference camera.
        surface: places on the whole hand at step 0, and on what carries it.
    """

    body: BodyMotion
    own: Int[np.ndarray, " _"]
    middle: Float[np.ndarray, " 3"]
    surface: Float[np.ndarray, "N 3"]


@dataclass(frozen=True)
class Hold:
    """A time in which something moves with a hand.

    Attributes:
        since: the last step before.
        until: the last step at which it does.
    """

    since: int
    until: int

    def of(self, count: int) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """``since`` and ``until`` for so many points."""
        return np.full(count, self.since), np.full(count, self.until)


def find_hold(carriers: Sequence[Carrier], evidence: Evidence, viewer: WindowViewer, reach: float) -> Hold | None:
    """The hold of a window that explains most of the points that have left their start, all together.

    Args:
        carriers: the parts of the hand.
        evidence: what is known of all points.
        viewer: looks at depth.
        reach: metres from the nearest point of the hand within which it may hold a point.

    Returns:
        None where the parts do not close or open: nothing tells then when they take anything.
    """
    steps = np.arange(len(viewer.frames))
    holds = _closed_times(carriers, steps)
    if not holds:
        return None
    body, own = carriers[0].body, carriers[0].own
    path = body.carry(evidence.start[own], np.zeros(len(own), int))
    who = np.flatnonzero(evidence.usable & evidence.left & ~evidence.settled)
    apart = lengths(path[:, None] - evidence.start[who, None]).min(axis=0)

    def explained(hold: Hold) -> float:
        start = evidence.start[who[apart[:, hold.since] < reach]]
        return float(np.maximum(viewer.held(body, start, *hold.of(len(start)), sure=True).gain, 0).sum())

    best = max(holds, key=explained)
    around = [
        Hold(max(best.since - before, 0), min(best.until + after, len(steps) - 1))
        for before in range(SLACK + 1)
        for after in range(SLACK + 1)
    ]
    return max(around, key=explained)


def _closed_times(carriers: Sequence[Carrier], steps: Int[np.ndarray, " S"]) -> list[Hold]:
    """Times in which the parts have closed and do not move against each other."""
    if len(carriers) < 2:
        return []
    places = np.stack([part.body.carry(part.middle[None], np.zeros(1, int))[0] for part in carriers])
    apart = lengths(places[:, None] - places).max(axis=(0, 1))
    runs = np.split(steps, np.flatnonzero(np.abs(np.diff(apart)) > GRIPPED) + 1)
    closed = [run for run in runs if len(run) >= SHORTEST and apart[run].mean() < apart.max() - CLOSED]
    return [Hold(int(run[0]), int(run[-1])) for run in closed]
