"""Scores every choice of parts against every kind of exact flow."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipeline.evaluation.by_body import WRONG, BodyLabels, bodies_of, measure_bodies, worst_bodies
from pipeline.evaluation.ground_truth import ExactEpisode, libero_episodes, rigid_world_episodes
from pipeline.evaluation.metrics import Metrics, measure
from pipeline.evaluation.scoring import ScoredWindow, nothing_labelled, nothing_moves, score_episode, windows_labelled
from pipeline.evaluation.simulator_truth import ReplayConfig, replayed_episodes
from pipeline.flow_sources import FlowSource
from pipeline.recipe import QualityConfig
from pipeline.timing import Stopwatch
from schemas.episode import BadEpisode
from schemas.plugins import PluginChoice
from schemas.scene_flow import GRID, HORIZON

BASELINE = "nothing moves"


@dataclass(frozen=True)
class BadBody:
    """A body with many wrong labels in a window, and the picture to draw them over.

    Attributes:
        step: at which the most of its labels are wrong.
        frame: the picture of that step.
    """

    found: BodyLabels
    step: int
    frame: UInt8[np.ndarray, "H W 3"]


@dataclass
class Evaluation:
    """The results of one choice on one kind of exact flow.

    Attributes:
        metrics: None when there is no exact flow.
        refused: why an episode could not be labelled. For the baseline, why an episode has no exact flow; then no
            choice is scored on it.
        frames_per_second: of labelling, all stages.
        worst: the bodies with the most wrong labels in a window; where bodies are not known, the windows.
    """

    truth: str
    choice: str
    metrics: Metrics | None = None
    refused: list[str] = field(default_factory=list)
    frames_per_second: float | None = None
    worst: list[BadBody] = field(default_factory=list)


TRUTHS = ("rigid-world", "files", "simulator")


def exact_episodes(
    truth: str,
    root: Path,
    limit: int | None,
    replay: ReplayConfig,
    dataset: PluginChoice = PluginChoice("libero"),
    horizon: int = HORIZON,
    grid: int = GRID,
) -> Iterator[ExactEpisode | BadEpisode]:
    """The episodes of one of ``TRUTHS``. ``limit`` limits episodes read from files, not the rigid world; ``dataset`` is
    the reader of the episodes that are replayed. Files have a horizon and a grid of their own.
    """
    if truth == "rigid-world":
        return rigid_world_episodes(horizon=horizon, grid=grid)
    if truth == "files":
        return islice(libero_episodes(root), limit)
    return islice(replayed_episodes(root, dataset, replay, horizon, grid), limit)


def evaluate(
    truth: str,
    episodes: Iterable[ExactEpisode | BadEpisode],
    sources: Sequence[tuple[str, FlowSource]],
    quality: QualityConfig,
    shown: int = 6,
) -> list[Evaluation]:
    """Score each source on all episodes, with "nothing moves" first.

    Args:
        truth: the name of this kind of exact flow in the results.
        episodes: read once, one after the other.
        sources: with their names.
        quality: thresholds of the labels.
        shown: number of bodies kept for pictures, the worst of each source.
    """
    results = [Evaluation(truth, name) for name in (BASELINE, *(name for name, _ in sources))]
    scored: list[list[ScoredWindow]] = [[] for _ in results]
    seconds, frames = np.zeros(len(results)), np.zeros(len(results))
    for episode in episodes:
        if isinstance(episode, BadEpisode):
            results[0].refused.append(str(episode))
            continue
        scored[0] += windows_labelled(episode, nothing_moves)
        for row, (_, source) in enumerate(sources, start=1):
            start = time.perf_counter()
            try:
                windows = score_episode(episode, source, quality, Stopwatch())
            except BadEpisode as error:
                name, said = episode.episode.ref.name, str(error)
                results[row].refused.append(said if said.startswith(name) else f"{name}: {said}")
                scored[row] += windows_labelled(episode, nothing_labelled, refused=True)
                continue
            seconds[row] += time.perf_counter() - start
            frames[row] += episode.episode.length
            scored[row] += windows
            results[row].worst = _worst(results[row].worst, episode, windows, shown)
    for row, result in enumerate(results):
        result.metrics = measure(scored[row]) | measure_bodies(scored[row]) if scored[row] else None
        result.frames_per_second = float(frames[row] / seconds[row]) if seconds[row] else None
    return results


def _worst(known: list[BadBody], exact: ExactEpisode, windows: list[ScoredWindow], shown: int) -> list[BadBody]:
    """The worst of those known and of an episode's."""
    before = {id(bad.found): bad for bad in known}
    found = worst_bodies([*(bad.found for bad in known), *(body for w in windows for body in bodies_of(w))], shown)
    return [before.get(id(body)) or _bad_body(exact, body) for body in found]


def _bad_body(exact: ExactEpisode, body: BodyLabels) -> BadBody:
    """The body with the picture of its worst step; of the last step of the window if no label is wrong."""
    s = body.window.scores
    wrong = (s.kept & (np.nan_to_num(s.error) > WRONG))[body.points].sum(axis=0)
    frames = exact.episode.views[exact.episode.primary].frames
    last = min(body.window.exact.horizon, len(frames) - 1 - body.window.reference)
    step = int(wrong.argmax()) + 1 if wrong.any() else last
    return BadBody(body, step, frames[body.window.reference + step].copy())
