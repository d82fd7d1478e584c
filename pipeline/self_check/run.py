"""Checks the labels of a dataset's episodes without exact flow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.episodes.chunks import DEFAULT_CHUNKS, EpisodeChunk, chunks_of, most_frames
from pipeline.errors import UnreadableSource
from pipeline.flow_sources import Scene, make_flow_source
from pipeline.readers import make_reader
from pipeline.recipe import QualityConfig, Recipe
from pipeline.self_check.doubts import doubts
from pipeline.self_check.metrics import Metrics, measure
from pipeline.self_check.windows import (
    Candidate,
    CheckedWindow,
    Times,
    add_labels,
    check_tracks,
    references_of,
)
from pipeline.timing import Stopwatch
from pipeline.trackers import make_tracker
from schemas.episode import BadEpisode, Episode
from schemas.plugins import PluginChoice
from schemas.scene_flow import GRID, HORIZON, keypoint_grid

RECORDED = "recorded"
"""The depth that many datasets lack; their labels are then checked in the image only."""
NO_PICTURE = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True)
class CheckConfig:
    """Which windows are checked.

    Attributes:
        horizon: steps that each window is followed.
        stride: frames from one window to the next.
        grid: keypoints along each side.
    """

    horizon: int = HORIZON
    stride: int = 8
    grid: int = GRID

    def __post_init__(self) -> None:
        for name in ("horizon", "stride", "grid"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, found {getattr(self, name)}")


@dataclass
class SelfCheck:
    """The result.

    Attributes:
        refused: why an episode could not be checked.
        unlabelled: why an episode has no labels in space with some candidate; its tracks are checked.
        frames_per_second: of forward tracking, by candidate.
        worst: the windows with the most doubtful tracks, worst first.
    """

    dataset: str
    episodes: int = 0
    refused: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    metrics: Metrics | None = None
    frames_per_second: dict[str, float] = field(default_factory=dict)
    worst: list[CheckedWindow] = field(default_factory=list)


def candidates_of(recipes: Mapping[str, Recipe]) -> list[Candidate]:
    """What is checked, from recipes by name (``pipeline.evaluation.sweep.combinations``); where they differ in their
    trackers only, the names are the trackers'.

    Raises:
        ValueError: an unknown plug-in, option or value, or a flow source without a tracker.
        BuildError: something that a plug-in needs is missing.
    """
    for recipe in recipes.values():
        if "tracker" not in recipe.as_dict():
            raise ValueError(
                f"--truth none follows points forwards and backwards with a tracker, and --flow {recipe.flow.name} has "
                "none: use --flow tracked"
            )
        recipe.check()
    others = {(str(r.flow), str(r.depth), str(r.camera)) for r in recipes.values()}
    return [
        Candidate(
            name if len(others) > 1 else recipe.tracker.spelled("pipeline.trackers"),
            make_tracker(recipe.tracker),
            make_flow_source(recipe.chosen_flow),
            recipe.depth.name,
        )
        for name, recipe in recipes.items()
    ]


def episodes_of(dataset: PluginChoice, root: Path, limit: int | None) -> Iterator[Episode | BadEpisode]:
    """The first episodes below a folder; for one that cannot be read, the exception.

    Raises:
        FileNotFoundError: there is none.
        ValueError: an unknown reader, option or value.
    """
    reader = make_reader(dataset)
    for ref in islice(reader.list_episodes(root), limit):
        if isinstance(ref, UnreadableSource):
            yield BadEpisode(ref.code, str(ref))
            continue
        try:
            yield reader.read(ref)
        except BadEpisode as error:
            yield error


def self_check(
    dataset: str,
    episodes: Iterable[Episode | BadEpisode],
    candidates: Sequence[Candidate],
    config: CheckConfig,
    quality: QualityConfig,
    shown: int = 6,
) -> SelfCheck:
    """Check the primary camera of some episodes.

    Args:
        dataset: its name in the result.
        episodes: read once, one after the other.
        quality: thresholds of the labels.
        shown: number of windows kept for pictures.
    """
    result, windows, times = SelfCheck(dataset), list[CheckedWindow](), Times()
    for episode in episodes:
        if isinstance(episode, BadEpisode):
            result.refused.append(str(episode))
            continue
        try:
            chunks = _chunks(episode, config)
            found = [_tracks(episode, chunk, candidates, config, times) for chunk in chunks]
        except BadEpisode as error:
            result.refused.append(_named(episode, error))
            continue
        for candidate in candidates:
            if candidate.depth == RECORDED and episode.views[episode.primary].depth is None:
                continue
            try:
                _label(episode, chunks, found, candidate, config, quality)
            except BadEpisode as error:
                result.unlabelled.append(f"{candidate.name}: {_named(episode, error)}")
        result.episodes += 1
        own = [window for windows in found for window in windows]
        result.worst = sorted([*result.worst, *own], key=lambda w: -doubts(w).count)[:shown]
        windows += [replace(window, picture=NO_PICTURE) for window in own]
    result.metrics = measure(windows) if windows else None
    result.frames_per_second = {name: times.frames[name] / s for name, s in times.seconds.items() if s}
    return result


def _chunks(episode: Episode, config: CheckConfig) -> list[EpisodeChunk]:
    """The chunks of an episode with its windows' reference frames.

    Raises:
        BadEpisode: ``too_short``.
    """
    view = episode.views[episode.primary]
    references = references_of(view.length, config.horizon, config.stride)
    if not references:
        raise BadEpisode("too_short", f"it has {view.length} frames")
    most = most_frames(DEFAULT_CHUNKS.megapixels, view.size, config.horizon)
    return list(chunks_of(view.length, references, config.horizon, most))


def _tracks(
    episode: Episode, chunk: EpisodeChunk, candidates: Sequence[Candidate], config: CheckConfig, times: Times
) -> list[CheckedWindow]:
    """The windows of a chunk in the image."""
    scene = Scene(chunk.of(episode), first=chunk.first)
    keypoints = keypoint_grid(*episode.views[episode.primary].size, config.grid)
    return check_tracks(candidates, scene, chunk.references, keypoints, config.horizon, times)


def _label(
    episode: Episode,
    chunks: Sequence[EpisodeChunk],
    found: Sequence[list[CheckedWindow]],
    candidate: Candidate,
    config: CheckConfig,
    quality: QualityConfig,
) -> None:
    """Add a candidate's labels to all windows of an episode.

    Raises:
        BadEpisode: it cannot label the episode; no window has its labels then.
    """
    keypoints = keypoint_grid(*episode.views[episode.primary].size, config.grid)
    whole = candidate.source.observe(episode, len(chunks) > 1, Stopwatch())
    try:
        for chunk, windows in zip(chunks, found, strict=True):
            add_labels(candidate, whole.slice(chunk), chunk.references, keypoints, windows, quality)
    except BadEpisode:
        for window in (w for windows in found for w in windows):
            window.labels.pop(candidate.name, None)
        raise


def _named(episode: Episode, error: BadEpisode) -> str:
    name, said = episode.ref.name, str(error)
    return said if said.startswith(name) else f"{name}: {said}"
