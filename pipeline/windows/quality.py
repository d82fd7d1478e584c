"""Quality checks of each keypoint's trajectory and of each window, by named thresholds that the manifest records.

A wrong label harms training more than a missing one, so doubtful positions are made invalid and not repaired here
(``pipeline.flow_sources._track_checks`` has tested and carried them before). A point that stands still is set to
exactly zero displacement, and flagged.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.recipe import QualityConfig
from pipeline.vision.lift import LiftedTracks
from schemas.cameras import lift
from schemas.scene_flow import PointFlag, SceneFlow


@dataclass(frozen=True)
class Check:
    """One reason to reject a window.

    Attributes:
        measure: the name under which a sample stores the measured value.
        threshold: the field of ``pipeline.recipe.QualityConfig``.
        least: whether the threshold is a minimum; else it is a maximum.
        means: what is measured, in words.
    """

    reason: str
    measure: str
    threshold: str
    least: bool
    means: str


CHECKS = (
    Check("too_short", "steps", "min_steps", True, "steps left in the episode"),
    Check("too_few_visible", "valid_share", "min_valid", True, "share of keypoints and steps that are valid"),
    Check("depth_holes", "hole_share", "max_holes", False, "share of visible keypoints and steps without depth"),
    Check("depth_edges", "edge_share", "max_edges", False, "share of visible keypoints and steps on depth edges"),
    Check("jumps", "jump_share", "max_jumps", False, "share of keypoints that jump"),
    Check("no_motion", "moving_points", "min_moving_points", True, "keypoints that move"),
)
"""In the order of the checks: a window is rejected for the first that fails."""
REASONS = tuple(check.reason for check in CHECKS)


@dataclass(frozen=True)
class EvaluatedWindow:
    """A window after the checks.

    Attributes:
        reason: None when it is kept, else one of ``REASONS``.
        measures: the value of each of ``CHECKS``, by the measure's name.
    """

    flow: SceneFlow
    point_flags: UInt8[np.ndarray, " K"]
    reason: str | None
    measures: dict[str, float]


def evaluate(
    lifted: LiftedTracks,
    steps: int,
    fps: float,
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    config: QualityConfig,
) -> EvaluatedWindow:
    """Check one window.

    Args:
        lifted: its flow, and where depth has holes or edges.
        steps: how many of its steps after the reference frame lie within the episode.
        fps: steps per second.
        intrinsics: of the reference camera.
        size: (width, height) of its image.
        config: thresholds.
    """
    raw = lifted.flow
    pixels = raw.uvz * [*size, 1]
    points = lift(pixels, intrinsics)
    static = _static(pixels, raw.valid, config)
    jump = np.zeros_like(raw.valid)
    if not lifted.exact:
        jump[~static] = _after_jump(points[~static], raw.valid[~static], config.max_speed / fps)
    edge = lifted.edge & ~static[:, None]
    edge[:, 0] = False  # the reference position uses a pixel's stored depth, without interpolation
    # After a moving point touches an edge, it is unknown on which side it continues.
    valid = raw.valid & ~jump & ~np.maximum.accumulate(edge, axis=1) & raw.valid[:, :1]
    uvz = raw.uvz if lifted.exact else np.where(static[:, None, None], raw.uvz[:, :1], raw.uvz)
    within = np.arange(raw.horizon + 1) <= steps
    flags = np.zeros(len(uvz), np.uint8)
    carried = np.zeros_like(raw.valid) if lifted.carried is None else lifted.carried
    troubles = (
        (PointFlag.STATIC, static),
        (PointFlag.LOST, (~raw.visible & within).any(1)),
        (PointFlag.DEPTH_HOLE, lifted.hole.any(1)),
        (PointFlag.DEPTH_EDGE, edge.any(1)),
        (PointFlag.JUMP, jump.any(1)),
        (PointFlag.CARRIED, carried.any(1)),
        (PointFlag.JOINTS, np.zeros(len(uvz), bool) if lifted.joints is None else lifted.joints),
    )
    for flag, which in troubles:
        flags[which] |= np.uint8(flag)
    moved = np.where(valid, np.linalg.norm(lift(uvz * [*size, 1], intrinsics) - points[:, :1], axis=-1), 0).max(1)
    seen = max(int(np.count_nonzero(raw.visible)), 1)
    measures = {
        "steps": float(steps),
        "valid_share": float(valid[:, : steps + 1].mean()),
        "hole_share": int(np.count_nonzero(lifted.hole)) / seen,
        "edge_share": int(np.count_nonzero(lifted.edge)) / seen,
        "jump_share": float(jump.any(1).mean()),
        "moving_points": float(np.count_nonzero(moved > config.moving_distance)),
    }
    reason = next((check.reason for check in CHECKS if _fails(check, measures, config)), None)
    rounded = {name: round(value, 4) for name, value in measures.items()}
    return EvaluatedWindow(SceneFlow(uvz, raw.visible, valid), flags, reason, rounded)


def measure_of(reason: str) -> str:
    """The measure on which a reason is based."""
    return next(check.measure for check in CHECKS if check.reason == reason)


def _fails(check: Check, measures: dict[str, float], config: QualityConfig) -> bool:
    measure, threshold = measures[check.measure], getattr(config, check.threshold)
    return measure < threshold if check.least else measure > threshold


def _static(
    pixels: Float[np.ndarray, "K S 3"], valid: Bool[np.ndarray, "K S"], config: QualityConfig
) -> Bool[np.ndarray, " K"]:
    """Points that never leave their start by more than the thresholds at any valid step."""
    away = np.where(valid[..., None], np.abs(pixels - pixels[:, :1]), 0)
    stays = (np.hypot(away[..., 0], away[..., 1]) <= config.static_px) & (away[..., 2] <= config.static_distance)
    return stays.all(axis=1) & valid[:, 0]


def _after_jump(
    points: Float[np.ndarray, "K S 3"], valid: Bool[np.ndarray, "K S"], distance: float
) -> Bool[np.ndarray, "K S"]:
    """Steps at which a point is farther from its last trusted position than the maximum speed allows.

    A point that slid off its object onto the background stays untrusted until it is back within reach, which grows with
    the time since it was last trusted.
    """
    jump = np.zeros(valid.shape, bool)
    last, since = points[:, 0], np.zeros(len(points))
    for step in range(1, valid.shape[1]):
        since += 1
        near = np.linalg.norm(points[:, step] - last, axis=-1) <= distance * since
        jump[:, step] = valid[:, step] & ~near
        trusted = valid[:, step] & near
        last = np.where(trusted[:, None], points[:, step], last)
        since[trusted] = 0
    return jump
