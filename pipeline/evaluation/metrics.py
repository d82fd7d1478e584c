"""Metrics. Lengths are in centimetres and pixels, shares between 0 and 1; a number that does not exist is None.

Error and coverage are always reported together, because either alone is easy to make good. A missing label does little
harm to training, a wrong one does much.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipeline.evaluation.scoring import ScoredWindow, Scores, join
from schemas.scene_flow import MOVES

WITHIN_CM = (0.5, 2.0, 5.0, 10.0)
APD_PIXELS = (1, 2, 4, 8, 16)
"""TAPVid-3D's thresholds: pixels of a 256-pixel image, carried to the depth of the exact point."""
FALSE_MOTION = 0.01
"""Metres that the label of a truly static point may drift before it counts as a false mover: a tolerance for errors,
twice what counts as motion."""
STEPS = (1, 4, 8, 16, 24, 32, 48, 64, 96, 128)
"""Steps that tables show, up to the horizon."""

Metrics = dict[str, Any]


def measure(windows: list[ScoredWindow]) -> Metrics:
    """All metrics over windows of one horizon. Point-steps after the reference frame are pooled.

    Refused windows are included: coverage is over all points, errors are over kept points.
    """
    s = join([w.scores for w in windows])
    steps = [step for step in STEPS if step <= s.known.shape[1]]
    return {
        "windows": len(windows),
        "labelled": sum(not w.refused for w in windows),
        "rejected": sum(w.rejected is not None for w in windows),
        **summarise(s),
        "false_movers": _false_movers([w.scores for w in windows if not w.refused]),
        "by_step": {
            name: {step: errors(s, select_step(s.seen & rows[:, None], step)) for step in steps}
            for name, rows in (("moving", s.moving), ("static", s.static))
        },
    }


def summarise(s: Scores) -> Metrics:
    """Metrics that do not depend on windows: by kind of point, visibility, TAPVid-3D's, drift."""
    moving, static, hidden = s.moving[:, None], s.static[:, None], s.known & ~s.seen
    return {
        "moving": errors(s, s.seen & moving),
        "static": errors(s, s.seen & static),
        "all": errors(s, s.seen),
        "occluded": {**errors(s, hidden), "taken_for_seen": _share(s.kept & s.label_seen, hidden)},
        "drift_cm": _drift(s),
        "visibility_accuracy": _share(s.label_seen == s.seen, s.known),
        **_tapvid(s),
    }


def errors(s: Scores, of: Bool[np.ndarray, "N T"]) -> Metrics:
    """Coverage of the selected point-steps (``points``), and the error of the kept ones."""
    kept = of & s.kept
    cm, px = 100 * s.error[kept], s.error_px[kept]
    return {
        "points": int(np.count_nonzero(of)),
        "kept": _share(s.kept, of),
        "cm": _spread(cm),
        "px": _spread(px),
        "within_cm": {str(limit): float(np.mean(cm < limit)) if cm.size else None for limit in WITHIN_CM},
    }


def _spread(values: Float[np.ndarray, " n"]) -> Metrics:
    if not values.size:
        return {"median": None, "mean": None, "p90": None}
    return {
        "median": float(np.median(values)),
        "mean": float(np.mean(values)),
        "p90": float(np.percentile(values, 90)),
    }


def _drift(s: Scores) -> Metrics:
    """How far labels of truly static points are from where they started."""
    away = 100 * s.label_travelled[s.kept & s.static[:, None]]
    if not away.size:
        return {"mean": None, "p99": None, "max": None}
    return {"mean": float(away.mean()), "p99": float(np.percentile(away, 99)), "max": float(away.max())}


def _tapvid(s: Scores) -> Metrics:
    """Average points within delta and average Jaccard; an absent label is within no distance and predicts "hidden".

    A label that gives the position of a hidden point and marks it as hidden does not count as wrong.
    """
    said_seen = s.kept & s.label_seen
    apd, jaccard = [], []
    for pixels in APD_PIXELS:
        within = s.kept & (np.nan_to_num(s.error, nan=np.inf) < pixels * s.pixel)
        right = within & s.seen
        apd.append(_share(right, s.seen))
        found = right & said_seen
        total = np.count_nonzero(s.seen) + np.count_nonzero(said_seen & ~found)
        jaccard.append(np.count_nonzero(found) / total if total else None)
    return {"apd_3d": _mean(apd), "jaccard_3d": _mean(jaccard)}


def _false_movers(windows: list[Scores]) -> Metrics:
    """Static points that a label moves by more than ``FALSE_MOTION``, per window, and moving points that it labels as
    static.
    """
    if not windows:
        return {"mean": None, "max": None, "snapped_movers_mean": None}
    false = [_count_movers(s, s.static) for s in windows]
    still = [
        int(np.count_nonzero(s.moving & (s.kept & (s.travelled > MOVES) & (s.label_travelled == 0)).any(1)))
        for s in windows
    ]
    return {
        "mean": float(np.mean(false)),
        "max": int(max(false)),
        "snapped_movers_mean": float(np.mean(still)),
    }


def _count_movers(s: Scores, rows: Bool[np.ndarray, " N"]) -> int:
    moved = np.where(s.kept, s.label_travelled, 0).max(axis=1) > FALSE_MOTION
    return int(np.count_nonzero(moved & rows))


def select_step(of: Bool[np.ndarray, "N T"], step: int) -> Bool[np.ndarray, "N T"]:
    """The selected point-steps of one step, from 1 on."""
    only = np.zeros_like(of)
    only[:, step - 1] = of[:, step - 1]
    return only


def _share(what: Bool[np.ndarray, "N T"], of: Bool[np.ndarray, "N T"]) -> float | None:
    total = np.count_nonzero(of)
    return float(np.count_nonzero(what & of) / total) if total else None


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
