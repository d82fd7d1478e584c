"""Compares labels of a flow source with exact flow, for every point and step."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.evaluation.bodies import PointClasses
from pipeline.evaluation.ground_truth import ExactEpisode
from pipeline.flow_sources import FlowSource
from pipeline.recipe import QualityConfig
from pipeline.timing import Stopwatch
from pipeline.windows.labels import label_windows
from pipeline.windows.resampling import step_times
from schemas.cameras import lift
from schemas.episode import BadEpisode
from schemas.scene_flow import MOVES, SceneFlow

STATIC = 0.001
"""Metres: a point whose exact position never leaves its start by more is static; one that leaves it by more than
``schemas.scene_flow.MOVES`` moves.
"""


@dataclass(frozen=True)
class Scores:
    """N points (of one window or of many) over steps 1..T.

    Attributes:
        error: distance in metres between label and exact position in the reference camera; NaN where there is no label.
        error_px: the same distance in the image, px.
        kept: the label is valid, and exact flow exists.
        label_seen: the point is visible according to the label.
        seen: the point is visible according to the exact flow.
        known: exact flow exists: the step lies within the episode.
        travelled: distance in metres of the exact position from its start.
        label_travelled: the same for the label; NaN where there is none.
        pixel: size in metres of a pixel of a 256-pixel image at the exact position.
    """

    error: Float[np.ndarray, "N T"]
    error_px: Float[np.ndarray, "N T"]
    kept: Bool[np.ndarray, "N T"]
    label_seen: Bool[np.ndarray, "N T"]
    seen: Bool[np.ndarray, "N T"]
    known: Bool[np.ndarray, "N T"]
    travelled: Float[np.ndarray, "N T"]
    label_travelled: Float[np.ndarray, "N T"]
    pixel: Float[np.ndarray, "N T"]

    @property
    def moving(self) -> Bool[np.ndarray, " N"]:
        """Points that truly move, at any known step."""
        return np.where(self.known, self.travelled, 0).max(axis=1) > MOVES

    @property
    def static(self) -> Bool[np.ndarray, " N"]:
        """Points that truly stand still."""
        return np.where(self.known, self.travelled, 0).max(axis=1) < STATIC


@dataclass(frozen=True)
class ScoredWindow:
    """One window's label, exact flow and scores.

    Attributes:
        rejected: why a build would reject the window; its label is scored anyway.
        refused: the source gave no label: the window's points count as not kept.
        classes: body and texture of its points, where they are known.
    """

    episode: str
    reference: int
    label: SceneFlow
    exact: SceneFlow
    scores: Scores
    rejected: str | None
    refused: bool = False
    classes: PointClasses | None = None


def score_episode(
    exact: ExactEpisode, source: FlowSource, quality: QualityConfig, watch: Stopwatch
) -> list[ScoredWindow]:
    """Label the windows whose exact flow is known, as a build would, and compare the labels with it.

    Raises:
        BadEpisode: the source cannot label this episode, or only with depth that has no scale.
    """
    episode, references = exact.episode, [reference for reference, _ in exact.windows]
    horizon = exact.windows[0][1].horizon
    scene, times = source.observe(episode, False, watch), step_times(horizon, None, episode.fps)
    labelled = label_windows(source, scene, references, exact.keypoints, times, quality, watch)
    flow = labelled.flow
    if flow.depth_unit != "m":
        raise BadEpisode(
            "relative_depth", f"its depth is {flow.depth_unit} ({flow.depth_source}), and errors are measured in metres"
        )
    scored = []
    for (reference, label), (_, truth), classes in zip(labelled.windows, exact.windows, exact.classes, strict=True):
        scores = compare(label.flow, truth, flow.cameras.intrinsics, flow.cameras.size)
        window = ScoredWindow(episode.ref.name, reference, label.flow, truth, scores, label.reason, classes=classes)
        scored.append(window)
    return scored


def windows_labelled(
    exact: ExactEpisode, label_of: Callable[[SceneFlow], SceneFlow], refused: bool = False
) -> list[ScoredWindow]:
    """All windows of an episode, with labels that are derived from the exact flow."""
    name, windows = exact.episode.ref.name, []
    for (reference, truth), classes in zip(exact.windows, exact.classes, strict=True):
        label = label_of(truth)
        scores = compare(label, truth, exact.intrinsics, exact.size)
        windows.append(ScoredWindow(name, reference, label, truth, scores, None, refused, classes))
    return windows


def nothing_labelled(exact: SceneFlow) -> SceneFlow:
    """The label used when a source refuses an episode: every point is absent. So all sources are scored on the same
    points.
    """
    nothing = np.zeros(exact.valid.shape, bool)
    return SceneFlow(exact.uvz, nothing, nothing)


def nothing_moves(exact: SceneFlow) -> SceneFlow:
    """The baseline: every point stays where it was, and every visible point is labelled."""
    return SceneFlow(np.repeat(exact.uvz[:, :1], exact.uvz.shape[1], axis=1), exact.visible, exact.visible)


def compare(label: SceneFlow, exact: SceneFlow, intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> Scores:
    """Scores of a label against exact flow of the same points; both in the camera of the reference frame."""
    kept, known = label.valid[:, 1:], exact.valid[:, 1:]
    label_px, exact_px = label.uvz * [*size, 1], exact.uvz * [*size, 1]
    label_m, exact_m = lift(label_px, intrinsics), lift(exact_px, intrinsics)
    return Scores(
        error=np.where(kept, _distance(label_m, exact_m)[:, 1:], np.nan),
        error_px=np.where(kept, _distance(label_px[..., :2], exact_px[..., :2])[:, 1:], np.nan),
        kept=kept & known,
        label_seen=label.visible[:, 1:],
        seen=exact.visible[:, 1:] & known,
        known=known,
        travelled=_distance(exact_m, exact_m[:, :1])[:, 1:],
        label_travelled=np.where(kept, _distance(label_m, label_m[:, :1])[:, 1:], np.nan),
        pixel=exact_px[:, 1:, 2] / intrinsics[0, 0] * size[0] / 256,
    )


def join(parts: list[Scores]) -> Scores:
    """Concatenate the scores of several windows of one horizon."""
    return Scores(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in Scores.__dataclass_fields__})


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1)
