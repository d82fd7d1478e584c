"""A sample's flow retargeted to even steps of distance, beside the stored flow in even steps of time
(``schemas.retargeting``).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.inspection.table import Table
from pipeline.vision.poses import poses_between
from schemas.retargeting import retarget, retargeted_times, step_lengths
from schemas.scene_flow import SceneFlow
from schemas.triplet import Triplet

RAW = "raw: in even steps of time"
RETARGETED = "retargeted: in even steps of distance"
ROUNDING = 1e-6
"""Displacements below this (image widths and metres) are rounding of positions between two steps, not motion."""
ROWS = 8
"""Rows of the table after the first."""


@dataclass(frozen=True)
class Retargeted:
    """A sample with its flow in even steps of distance.

    Attributes:
        triplet: the sample with that flow, and with the camera poses at those times.
        times: the time of each step, in raw steps; the step's own number after the episode's end and if nothing moves.
    """

    triplet: Triplet
    times: Float[np.ndarray, " S"]


def retargeted(t: Triplet) -> Retargeted:
    """The retargeted form of a raw sample."""
    intrinsics, size, poses = t.camera.intrinsics, t.camera.size, t.camera.world_from_camera
    found, times = retargeted_times(t.flow, intrinsics, size), np.arange(t.flow.horizon + 1.0)
    if found is not None:
        times[: len(found)] = found
    camera = replace(t.camera, world_from_camera=poses_between(poses, times)) if len(poses) > 1 else t.camera
    flow = retarget(t.flow, intrinsics, size)
    rounded = (
        np.abs(flow.uvz - flow.uvz[:, :1]).max(axis=(1, 2)) < ROUNDING
    )  # a point that does not move is drawn as a single point
    flow = replace(flow, uvz=np.where(rounded[:, None, None], flow.uvz[:, :1], flow.uvz))
    return Retargeted(replace(t, flow=flow, camera=camera), times)


def describe_retargeted(t: Triplet) -> dict[str, Any]:
    """The time of each retargeted step, and the distance that the points which move farthest have covered at each step,
    raw and retargeted; in the unit of depth.
    """
    made = retargeted(t)
    return {
        "times": made.times.round(4).tolist(),
        "unit": t.depth_unit,
        "way_raw": _way(t, t.flow),
        "way_retargeted": _way(t, made.triplet.flow),
    }


def retargeting_table(facts: dict[str, Any], step_seconds: float) -> Table:
    """The facts of ``describe_retargeted`` as a table, at some of the steps."""
    scale, unit = (100, "cm") if facts["unit"] == "m" else (1, facts["unit"])
    last = len(facts["times"]) - 1
    rows = [
        [
            f"step {step}",
            f"{step * step_seconds:.2f}",
            f"{scale * facts['way_raw'][step]:.2f}",
            f"{facts['times'][step] * step_seconds:.2f}",
            f"{scale * facts['way_retargeted'][step]:.2f}",
        ]
        for step in np.linspace(0, last, min(ROWS, last) + 1).round().astype(int)
    ]
    title = f"the way of the points that move farthest; {RAW}, and {RETARGETED}"
    return Table(title, ["", "raw: s", f"way, {unit}", "retargeted: s", f"way, {unit}"], rows)


def _way(t: Triplet, flow: SceneFlow) -> list[float]:
    lengths = step_lengths(flow, t.camera.intrinsics, t.camera.size)
    return [0.0, *np.cumsum(lengths).round(6).tolist()]
