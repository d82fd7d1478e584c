"""The colour scales of a page: one for each unit of depth, so that a colour means the same value on every sample."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.inspection.flow_statistics import measure
from pipeline.inspection.pictures import depth_change_limit
from schemas.triplet import Triplet


@dataclass(frozen=True)
class Scale:
    """Ends of the colour scales, in the unit of depth.

    Attributes:
        change: depth change is coloured from -change to +change.
        near, far: depth at the keypoints is coloured from near to far.
    """

    change: float
    near: float
    far: float


def scales_of(triplets: Iterable[Triplet]) -> dict[str, Scale]:
    """The scales by unit of depth, over all windows that a page shows."""
    by_unit: dict[str, list[Triplet]] = {}
    for t in triplets:
        by_unit.setdefault(t.depth_unit, []).append(t)
    found = {}
    for unit, shown in by_unit.items():
        depth = np.concatenate([t.flow.uvz[:, 0, 2][t.flow.valid[:, 0]] for t in shown])
        near, far = (float(depth.min()), float(depth.max())) if depth.size else (0.0, 1.0)
        found[unit] = Scale(depth_change_limit([(t, measure(t)) for t in shown]), near, far)
    return found
