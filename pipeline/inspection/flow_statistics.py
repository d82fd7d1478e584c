"""How far the points of one window move, and the ranges over many windows.

Distances in the image are in pixels of the sample's own image; depth and distances in space are in the triplet's unit.
A position counts only where the flow is valid there and at the reference frame.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.inspection.histogram import Histogram
from schemas.cameras import lift
from schemas.flow_quanta import QUANTUM_PX, QUANTUM_Z
from schemas.scene_flow import MOTION_SCALE, MOVES, flag_names, moving_points
from schemas.triplet import Triplet

STEP_PERCENTS = (0, 1, 5, 50, 95, 99, 100)
TOTAL_PERCENTS = (50, 75, 90, 95, 99, 100)


@dataclass(frozen=True)
class MeasuredFlow:
    """One window's motion.

    Attributes:
        steps: increments (du px, dv px, dz) of each step; zero where ``step_mask`` is false.
        step_mask: both ends of the step are valid.
        displacement: (u px, v px, z) minus the reference position; zero where not ``used``.
        distance: from the reference position in space, in the unit of depth; zero where not ``used``.
        used: valid at that step and at the reference frame.
        last: the last used step of each point, 0 if there is none after the reference.
        moving: the point gets farther than ``MOVES`` from its reference position in space.
        inside: steps within the episode: those up to the last step at which any point is valid.
    """

    steps: Float[np.ndarray, "K T 3"]
    step_mask: Bool[np.ndarray, "K T"]
    displacement: Float[np.ndarray, "K S 3"]
    distance: Float[np.ndarray, "K S"]
    used: Bool[np.ndarray, "K S"]
    last: Int[np.ndarray, " K"]
    moving: Bool[np.ndarray, " K"]
    inside: Bool[np.ndarray, " S"]

    @property
    def score(self) -> float:
        """Mean over the keypoints of the farthest distance of each in the image, in pixels; ranks samples by motion."""
        return float(np.linalg.norm(self.displacement[..., :2], axis=-1).max(axis=1).mean())

    def total(self) -> Float[np.ndarray, "K 3"]:
        """Displacement from the reference frame to the last used step, (px, px, unit of depth)."""
        return np.take_along_axis(self.displacement, self.last[:, None, None], axis=1)[:, 0]

    def total_distance(self) -> Float[np.ndarray, " K"]:
        """Distance in space from the reference frame to the last used step, in the unit of depth."""
        return np.take_along_axis(self.distance, self.last[:, None], axis=1)[:, 0]


def positions(triplet: Triplet) -> Float[np.ndarray, "K S 3"]:
    """(u px, v px, z) of every keypoint, float64."""
    return triplet.flow.uvz.astype(np.float64) * [*triplet.camera.size, 1]


def measure(triplet: Triplet) -> MeasuredFlow:
    """The motion of a window in pixels and in space."""
    flow = triplet.flow
    uvz = positions(triplet)
    used = flow.valid & flow.valid[:, :1]
    displacement = np.where(used[..., None], uvz - uvz[:, :1], 0)
    xyz = lift(uvz, triplet.camera.intrinsics)
    distance = np.where(used, np.linalg.norm(xyz - xyz[:, :1], axis=-1), 0)
    increments, step_mask = flow.increments()
    seen = np.flatnonzero(flow.valid.any(axis=0))
    return MeasuredFlow(
        steps=increments.astype(np.float64) * [*triplet.camera.size, 1],
        step_mask=step_mask,
        displacement=displacement,
        distance=distance,
        used=used,
        last=np.where(used, np.arange(used.shape[1]), 0).max(axis=1),
        moving=moving_points(xyz, used),
        inside=np.arange(used.shape[1]) <= (seen[-1] if seen.size else 0),
    )


def moving_words(unit: str) -> str:
    """A description of ``moving`` for the output."""
    distance = f"{100 * MOVES:g} cm" if unit == "m" else f"{100 * MOVES:g}% of the episode's median depth"
    return f"farther than {distance} in space"


NORMALISED_EDGES = np.linspace(-1.5, 1.5, 62)
"""Bins of increments divided by ``MOTION_SCALE``; the middle one holds zero."""
DISTANCE_EDGES = np.geomspace(1e-3, 10, 49)
"""Bins of distances in space, twelve to each factor of ten."""


class _Ranges:
    """Histograms of one group of points."""

    def __init__(self) -> None:
        self.normalised = {name: Histogram(5e-4) for name in ("du", "dv", "dz")}
        self.steps = {"du_px": Histogram(QUANTUM_PX), "dv_px": Histogram(QUANTUM_PX), "dz": Histogram(QUANTUM_Z)}
        self.total = {"image_px": Histogram(QUANTUM_PX), "depth": Histogram(QUANTUM_Z), "space": Histogram(QUANTUM_Z)}

    def add(self, measured: MeasuredFlow, points: Bool[np.ndarray, " K"], scale: Float[np.ndarray, " 3"]) -> None:
        steps = measured.steps[points][measured.step_mask[points]]
        for axis, histogram in enumerate(self.steps.values()):
            histogram.add(steps[:, axis])
        for axis, histogram in enumerate(self.normalised.values()):
            histogram.add(steps[:, axis] / scale[axis])
        points = points & (measured.last > 0)
        total = measured.total()[points]
        self.total["image_px"].add(np.linalg.norm(total[:, :2], axis=-1))
        self.total["depth"].add(total[:, 2])
        self.total["space"].add(measured.total_distance()[points])

    def histograms(self) -> dict[str, dict[str, list[float]]]:
        """Edges and shares of the bins, by quantity."""
        binned = {name: (NORMALISED_EDGES, h) for name, h in self.normalised.items()}
        binned["distance"] = (DISTANCE_EDGES, self.total["space"])
        return {
            name: {"edges": edges.round(6).tolist(), "shares": h.shares(edges).round(7).tolist()}
            for name, (edges, h) in binned.items()
        }

    def result(self) -> dict[str, dict[str, dict[str, float | None]]]:
        return {
            "step": {name: h.percentiles(STEP_PERCENTS) for name, h in self.steps.items()},
            "total": {
                name: h.percentiles(STEP_PERCENTS if name == "depth" else TOTAL_PERCENTS)
                for name, h in self.total.items()
            },
        }


class FlowStatistics:
    """Ranges and shares of the flow of many windows with the same unit of depth."""

    def __init__(self, unit: str):
        self.unit = unit
        self.samples = self.past_end = 0
        self._counts = dict.fromkeys(("points", "still", "moving", "steps", "visible", "valid", "increments"), 0)
        self._beyond = np.zeros(3, np.int64)
        self._flags: dict[str, int] = {}
        self._ranges = {"all": _Ranges(), "moving": _Ranges()}
        self._depth = Histogram(1e-3)

    def add(self, triplet: Triplet, measured: MeasuredFlow) -> None:
        """Count one window."""
        flow, inside, count = triplet.flow, measured.inside, self._counts
        self.samples += 1
        self.past_end += not inside.all()
        count["points"] += flow.uvz.shape[0]
        count["still"] += int((~np.any(measured.displacement, axis=(1, 2)) & (measured.last > 0)).sum())
        count["moving"] += int(measured.moving.sum())
        count["steps"] += flow.uvz.shape[0] * int(inside.sum())
        count["visible"] += int(flow.visible[:, inside].sum())
        count["valid"] += int(flow.valid[:, inside].sum())
        count["increments"] += int(measured.step_mask.sum())
        scale = np.array(
            [MOTION_SCALE[0] * triplet.camera.size[0], MOTION_SCALE[1] * triplet.camera.size[1], MOTION_SCALE[2]]
        )
        self._beyond += (np.abs(measured.steps) > scale * (1 + 1e-6)).sum(axis=(0, 1))
        for name, points in flag_names(triplet.point_flags).items():
            self._flags[name] = self._flags.get(name, 0) + points
        self._ranges["all"].add(measured, np.ones(len(measured.moving), bool), scale)
        self._ranges["moving"].add(measured, measured.moving, scale)
        self._depth.add(triplet.flow.uvz[:, 0, 2][flow.valid[:, 0]])

    def result(self) -> dict:
        """Plain values for printing and JSON. Shares are of all keypoints, or of all steps within the episodes."""
        count = self._counts
        return {
            "unit": self.unit,
            "samples": self.samples,
            "past_episode_end": self.past_end,
            "points": count["points"],
            "moving_means": moving_words(self.unit),
            "share_exactly_still": _share(count["still"], count["points"]),
            "share_moving": _share(count["moving"], count["points"]),
            "share_visible": _share(count["visible"], count["steps"]),
            "share_valid": _share(count["valid"], count["steps"]),
            "share_flagged": {name: _share(n, count["points"]) for name, n in self._flags.items()},
            "share_beyond_motion_scale": dict(
                zip(("du", "dv", "dz"), (_share(int(n), count["increments"]) for n in self._beyond), strict=True)
            ),
            "reference_depth": self._depth.percentiles((0, 1, 50, 99, 100)),
            "histograms_of_moving_points": self._ranges["moving"].histograms(),
            **{name: ranges.result() for name, ranges in self._ranges.items()},
        }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
