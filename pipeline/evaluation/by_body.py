"""Metrics by rigid body, by kind of body and by texture, and the bodies whose labels are worst."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipeline.evaluation.bodies import Body
from pipeline.evaluation.metrics import STEPS, Metrics, errors, select_step
from pipeline.evaluation.scoring import ScoredWindow, join

WRONG = 0.02
"""Metres from which a kept label counts as wrong."""
FEWEST = 4
"""Labels at one step that a body must have for its motion to be judged as a whole."""
WHOLE = 0.5
"""Share of a body's labels at one step above which the whole body is wrong."""
CONTRASTS = (("poor", 0.0, 4.0), ("middling", 4.0, 16.0), ("rich", 16.0, np.inf))
"""Classes of texture: standard deviation of grey levels around a point (``PointClasses.contrast``), from and below."""
GROUPS: dict[str, tuple[str, ...]] = {
    "arm": ("arm",),
    "hand": ("hand",),
    "arm and hand": ("arm", "hand"),
    "object": ("object",),
    "part": ("part",),
    "objects and parts": ("object", "part"),
}
"""Rows of the tables and the kinds of body that each pools; only points that move count."""
STILL = "static"
"""The row of the points that stand still, whatever they lie on."""


@dataclass(frozen=True)
class BodyLabels:
    """The labels of one body in one window.

    Attributes:
        body: None where bodies are not known: then these are all points of the window.
        points: which of the window's.
        labels: how many point-steps have a label ...
        wrong: ... that is off by more than ``WRONG``.
        mean: distance in metres of these labels from the exact positions; None without labels.
        whole: at some step most of the body's labels are wrong.
    """

    window: ScoredWindow
    body: Body | None
    points: Bool[np.ndarray, " K"]
    labels: int
    wrong: int
    mean: float | None
    whole: bool

    @property
    def clip(self) -> str:
        """The episode without its folder, and the reference frame."""
        return f"{self.window.episode.rsplit('/')[-1]}, frame {self.window.reference}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "episode": self.window.episode,
            "frame": self.window.reference,
            "body": self.body.name if self.body else None,
            "kind": self.body.kind if self.body else None,
            "points": int(np.count_nonzero(self.points)),
            "labels": self.labels,
            "wrong": self.wrong,
            "mean_cm": None if self.mean is None else 100 * self.mean,
            "whole_body_wrong": self.whole,
        }


def bodies_of(window: ScoredWindow) -> list[BodyLabels]:
    """The labels of each body that is seen in a window; of all points together where bodies are not known."""
    classes = window.classes
    if classes is None or classes.bodies is None:
        return [_labels_of(window, None, np.ones(len(window.scores.kept), bool))]
    return [
        _labels_of(window, classes.bodies[i], classes.body == i) for i in np.unique(classes.body[classes.body >= 0])
    ]


def _labels_of(window: ScoredWindow, body: Body | None, points: Bool[np.ndarray, " K"]) -> BodyLabels:
    s = window.scores
    kept = s.kept & points[:, None]
    off = kept & (np.nan_to_num(s.error) > WRONG)
    labels, wrong = (kept.sum(axis=0), off.sum(axis=0))
    whole = body is not None and bool(((labels >= FEWEST) & (wrong > WHOLE * labels)).any())
    mean = float(s.error[kept].mean()) if kept.any() else None
    return BodyLabels(window, body, points, int(labels.sum()), int(wrong.sum()), mean, whole)


def measure_bodies(windows: Sequence[ScoredWindow]) -> Metrics:
    """``by_body``, ``by_texture`` and ``bodies_wrong``; empty where the exact flow does not tell bodies apart.

    Point-steps that are truly visible are pooled over all windows, as in ``pipeline.evaluation.metrics``.
    """
    classes = [w.classes for w in windows if w.classes is not None and w.classes.bodies is not None]
    if len(classes) < len(windows) or not windows:
        return {}
    s = join([w.scores for w in windows])
    kinds = np.concatenate([c.kinds for c in classes])
    contrast = np.concatenate([c.contrast for c in classes])
    rows = {name: s.moving & np.isin(kinds, pooled) for name, pooled in GROUPS.items()} | {STILL: s.static}
    total = np.count_nonzero(s.seen & s.moving[:, None])
    steps = [step for step in STEPS if step <= s.known.shape[1]]
    by_body = {}
    for name, which in rows.items():
        of = s.seen & which[:, None]
        found = errors(s, of)
        found["share_of_moving"] = found["points"] / total if total and name != STILL else None
        found["by_step"] = {step: errors(s, select_step(of, step)) for step in steps}
        by_body[name] = found
    by_texture = {
        name: {
            level: errors(s, s.seen & (which & between(contrast, low, high))[:, None]) for level, low, high in CONTRASTS
        }
        for name, which in rows.items()
    }
    judged = [b for w in windows for b in bodies_of(w) if _judged(b)]
    wrong = sum(b.whole for b in judged)
    return {"by_body": by_body, "by_texture": by_texture, "bodies_wrong": {"wrong": wrong, "of": len(judged)}}


def between(values: Float[np.ndarray, " N"], low: float, high: float) -> Bool[np.ndarray, " N"]:
    """Values from ``low`` and below ``high``."""
    return (values >= low) & (values < high)


def worst_bodies(bodies: Sequence[BodyLabels], shown: int) -> list[BodyLabels]:
    """Those with the most wrong labels, of any window."""
    return sorted(bodies, key=lambda b: (-b.wrong, -(b.mean or 0)))[:shown]


def _judged(body: BodyLabels) -> bool:
    """Whether a body truly moves, and by enough points to be judged as a whole."""
    return int(np.count_nonzero(body.window.scores.moving & body.points)) >= FEWEST
