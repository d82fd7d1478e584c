"""Metrics without exact flow. Lengths in the image are in px of a picture 256 wide, in space in centimetres (or
hundredths of the median depth, where depth is relative); shares lie between 0 and 1; a number that does not exist is
None.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.evaluation.metrics import FALSE_MOTION, STEPS
from pipeline.self_check.windows import MOVES_PX, CheckedWindow

WITHIN_PX = (1.0, 2.0, 4.0)
WITHIN_CM = (0.5, 1.0, 2.0)
KINDS = ("moving", "still")

Metrics = dict[str, Any]


def measure(windows: Sequence[CheckedWindow]) -> Metrics:
    """All metrics over windows: of every candidate (``tracks``, ``labels``) and of every two (``agreement``)."""
    names = list(windows[0].tracks) if windows else []
    labelled = [name for name in names if any(name in w.labels for w in windows)]
    return {
        "windows": len(windows),
        "points": sum(len(w.moving) for w in windows),
        "moving_points": sum(int(w.moving.sum()) for w in windows),
        "still_cameras": sum(w.background is not None for w in windows),
        "background_points": sum(int(w.background.sum()) for w in windows if w.background is not None),
        "tracks": {name: _of_tracks(windows, name) for name in names},
        "agreement": {f"{a} | {b}": _agreement(windows, a, b) for a, b in combinations(names, 2)},
        "labels": {name: _of_labels([w for w in windows if name in w.labels], name) for name in labelled},
        "label_agreement": {f"{a} | {b}": _label_agreement(windows, a, b) for a, b in combinations(labelled, 2)},
    }


def _of_tracks(windows: Sequence[CheckedWindow], name: str) -> Metrics:
    found: Metrics = {}
    for kind in KINDS:
        rows = [_rows(w, kind) for w in windows]
        ends = _joined([w.returned[name][r] for w, r in zip(windows, rows, strict=True)])
        seen = [w.tracks[name].visible[r] for w, r in zip(windows, rows, strict=True)]
        reached = ends[~np.isnan(ends)]
        found[kind] = {
            "points": len(ends),
            "seen": _mean(_joined([s[:, 1:].ravel() for s in seen])),
            "reach_end": _mean(~np.isnan(ends)),
            "lost_back": _mean(np.isinf(reached)),
            "cycle_px": _spread(reached[np.isfinite(reached)]),
            "cycle_within": _within(reached, WITHIN_PX),
            "seen_by_step": {
                step: _mean(_joined([s[:, step] for s in seen if s.shape[1] > step])) for step in _steps(windows)
            },
        }
    still = [w for w in windows if w.background is not None]
    away = [w.travelled(name)[w.background] for w in still]
    found["background"] = _drift(away, MOVES_PX)
    return found


def _agreement(windows: Sequence[CheckedWindow], one: str, other: str) -> Metrics:
    apart = [w.apart(one, other) for w in windows]
    return {kind: _distances(windows, apart, kind, WITHIN_PX) for kind in KINDS}


def _of_labels(windows: Sequence[CheckedWindow], name: str) -> Metrics:
    away = []
    for window in windows:
        label = window.labels[name]
        distance = 100 * np.linalg.norm(label.xyz - label.xyz[:, :1], axis=-1)
        away.append(np.where(label.kept, distance, np.nan))
    return {
        "windows": len(windows),
        "units": sorted({w.labels[name].unit for w in windows}),
        **{
            kind: {
                "points": sum(int(_rows(w, kind).sum()) for w in windows),
                "kept": _mean(_joined([w.labels[name].kept[_rows(w, kind), 1:].ravel() for w in windows])),
            }
            for kind in KINDS
        },
        "background": _drift(
            [a[w.background] for a, w in zip(away, windows, strict=True) if w.background is not None],
            100 * FALSE_MOTION,
        ),
    }


def _label_agreement(windows: Sequence[CheckedWindow], one: str, other: str) -> Metrics:
    both = [w for w in windows if one in w.labels and other in w.labels]
    apart = []
    for window in both:
        a, b = window.labels[one], window.labels[other]
        distance = 100 * np.linalg.norm(a.xyz - b.xyz, axis=-1)
        apart.append(np.where(a.kept & b.kept, distance, np.nan))
    return {kind: _distances(both, apart, kind, WITHIN_CM) for kind in KINDS}


def _distances(
    windows: Sequence[CheckedWindow], apart: Sequence[np.ndarray], kind: str, limits: tuple[float, ...]
) -> Metrics:
    """Distances between two candidates at the steps after the first."""
    of_kind = [a[_rows(w, kind)] for a, w in zip(apart, windows, strict=True)]
    every = _joined([a[:, 1:].ravel() for a in of_kind])
    both = every[~np.isnan(every)]
    by_step = {}
    for step in _steps(windows):
        at = _joined([a[:, step] for a in of_kind if a.shape[1] > step])
        at = at[~np.isnan(at)]
        by_step[step] = {"median": _median(at), "within": _within(at, limits)}
    return {
        "points": len(every),
        "both": _mean(~np.isnan(every)),
        "distance": _spread(both),
        "within": _within(both, limits),
        "by_step": by_step,
    }


def _drift(away: Sequence[np.ndarray], limit: float) -> Metrics:
    """How far points of the background are from their start, over kept point-steps, and how many a window leave it."""
    moved = [np.nan_to_num(a).max(axis=1, initial=0) > limit for a in away]
    every = _joined([a[:, 1:].ravel() for a in away])
    kept = every[~np.isnan(every)]
    return {
        "points": sum(map(len, away)),
        "windows": len(away),
        "kept": _mean(~np.isnan(every)),
        "mean": float(kept.mean()) if kept.size else None,
        "p99": float(np.percentile(kept, 99)) if kept.size else None,
        "max": float(kept.max()) if kept.size else None,
        "movers": float(np.mean([m.sum() for m in moved])) if moved else None,
    }


def _rows(window: CheckedWindow, kind: str) -> np.ndarray:
    return window.moving if kind == "moving" else ~window.moving


def _steps(windows: Sequence[CheckedWindow]) -> list[int]:
    longest = max((w.steps for w in windows), default=0)
    return [step for step in STEPS if step <= longest]


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def _spread(values: np.ndarray) -> Metrics:
    return {"median": _median(values), "p90": float(np.percentile(values, 90)) if len(values) else None}


def _within(values: np.ndarray, limits: tuple[float, ...]) -> dict[str, float | None]:
    return {f"{limit:g}": _mean(values < limit) for limit in limits}
