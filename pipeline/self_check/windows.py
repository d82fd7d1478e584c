"""The windows of an episode as every tracker follows them: forward, backward from the end, and as labels in space."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.flow_sources import FlowSource, Scene
from pipeline.recipe import QualityConfig
from pipeline.self_check.background import background_points, stands_still
from pipeline.timing import Stopwatch
from pipeline.trackers import Tracker
from pipeline.vision.patches import grey_clip
from pipeline.windows.labels import label_windows
from pipeline.windows.resampling import step_times
from schemas.cameras import lift
from schemas.perception import Tracks2D

SIDE = 256
"""Lengths in the image are in px of a picture of this width, so that datasets can be compared."""
MOVES_PX = 2.0
"""A point moves if any tracker sees it farther than this from its start."""
LEAST_STEPS = 8
"""Shortest window; a window that the clip's end cuts is taken only of a clip with no full one."""


@dataclass(frozen=True)
class Candidate:
    """What is checked: a tracker, and the source that makes labels with it and a depth."""

    name: str
    tracker: Tracker
    source: FlowSource
    depth: str


@dataclass(frozen=True)
class Label:
    """A label in space.

    Attributes:
        xyz: in the camera of the reference frame, in ``unit``.
        kept: it is valid.
        unit: ``m``, or ``relative``: medians of the depth.
    """

    xyz: Float[np.ndarray, "K S 3"]
    kept: Bool[np.ndarray, "K S"]
    unit: str


@dataclass(frozen=True)
class CheckedWindow:
    """A window, steps 0..T of its own; a candidate's parts are by its name.

    Attributes:
        pixel: px of a picture ``SIDE`` wide in a px of this one.
        background: points that can be seen to stand still; None if the camera moves.
        tracks: forward, from the reference frame.
        returned: distance in px (of ``SIDE``) from its start at which a point ends that is followed to the last step
            and back; NaN if it does not reach the last step, infinite if it is lost on the way back.
        labels: where there is depth.
        picture: the reference frame.
    """

    episode: str
    reference: int
    pixel: float
    background: Bool[np.ndarray, " K"] | None
    tracks: dict[str, Tracks2D]
    returned: dict[str, Float[np.ndarray, " K"]]
    labels: dict[str, Label]
    picture: UInt8[np.ndarray, "H W 3"]

    @property
    def steps(self) -> int:
        """T"""
        return next(iter(self.tracks.values())).uv.shape[1] - 1

    def travelled(self, name: str) -> Float[np.ndarray, "K S"]:
        """Distance in px (of ``SIDE``) of each position from its start; NaN where the point is not seen."""
        tracks = self.tracks[name]
        away = self.pixel * np.linalg.norm(tracks.uv - tracks.uv[:, :1], axis=-1)
        return np.where(tracks.visible, away, np.nan)

    @property
    def moving(self) -> Bool[np.ndarray, " K"]:
        """Points that move according to any tracker, so that all are judged on the same points."""
        return np.any([np.nan_to_num(self.travelled(name)).max(axis=1) > MOVES_PX for name in self.tracks], axis=0)

    def apart(self, one: str, other: str) -> Float[np.ndarray, "K S"]:
        """Distance in px (of ``SIDE``) between two trackers' positions; NaN where not both see the point."""
        a, b = self.tracks[one], self.tracks[other]
        return np.where(a.visible & b.visible, self.pixel * np.linalg.norm(a.uv - b.uv, axis=-1), np.nan)


@dataclass
class Times:
    """Seconds of forward tracking and frames tracked, by candidate."""

    seconds: dict[str, float] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, seconds: float, frames: int) -> None:
        """Count one clip."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.frames[name] = self.frames.get(name, 0) + frames


def references_of(length: int, horizon: int, stride: int) -> list[int]:
    """First frames of the windows of a clip; empty if it is too short."""
    if length > horizon:
        return list(range(0, length - horizon, stride))
    return [0] if length > min(LEAST_STEPS, horizon) else []


def check_tracks(
    candidates: Sequence[Candidate],
    scene: Scene,
    references: Sequence[int],
    keypoints: Float[np.ndarray, "K 2"],
    horizon: int,
    times: Times,
) -> list[CheckedWindow]:
    """The windows of a scene in the image, with every candidate; ``labels`` are still empty.

    Args:
        references: frames of the scene, ascending.
        keypoints: in px.
        horizon: steps; fewer if the clip ends.
    """
    view = scene.episode.views[scene.episode.primary]
    frames, grey, still = view.frames, grey_clip(view.frames), stands_still(view)
    inside = min(horizon, len(frames) - 1)
    tracked: dict[str, list[Tracks2D]] = {}
    for candidate in candidates:
        start = time.perf_counter()
        tracked[candidate.name] = candidate.tracker.track(frames, references, keypoints, inside)
        times.add(candidate.name, time.perf_counter() - start, len(frames))
    pixel, windows = SIDE / view.size[0], []
    for place, reference in enumerate(references):
        own = {name: tracks[place] for name, tracks in tracked.items()}
        clip = frames[reference : reference + inside + 1]
        windows.append(
            CheckedWindow(
                episode=scene.episode.ref.name,
                reference=reference + scene.first,
                pixel=pixel,
                background=background_points(grey, keypoints, reference + np.arange(inside + 1)) if still else None,
                tracks=own,
                returned={c.name: pixel * returned(c.tracker, clip, own[c.name]) for c in candidates},
                labels={},
                picture=frames[reference].copy(),
            )
        )
    return windows


def returned(tracker: Tracker, clip: UInt8[np.ndarray, "S H W 3"], tracks: Tracks2D) -> Float[np.ndarray, " K"]:
    """How far from its start, in px, a point ends that is followed from its last position back through the clip: NaN
    if it was not seen at the last step, infinite if it is lost on the way back.
    """
    reached = tracks.visible[:, -1]
    away = np.full(len(reached), np.nan)
    if reached.any():
        (back,) = tracker.track(np.ascontiguousarray(clip[::-1]), [0], tracks.uv[reached, -1], len(clip) - 1)
        distance = np.linalg.norm(back.uv[:, -1] - tracks.uv[reached, 0], axis=-1)
        away[reached] = np.where(back.visible[:, -1], distance, np.inf)
    return away


def add_labels(
    candidate: Candidate,
    scene: Scene,
    references: Sequence[int],
    keypoints: Float[np.ndarray, "K 2"],
    windows: Sequence[CheckedWindow],
    quality: QualityConfig,
) -> None:
    """Add a candidate's labels in space to the windows of a scene.

    Raises:
        BadEpisode: it cannot label the episode.
    """
    horizon = windows[0].steps
    steps = step_times(horizon, None, scene.episode.fps)
    labelled = label_windows(candidate.source, scene, references, keypoints, steps, quality, Stopwatch())
    cameras = labelled.flow.cameras
    made = [
        Label(lift(label.flow.uvz * [*cameras.size, 1], cameras.intrinsics), label.flow.valid, labelled.flow.depth_unit)
        for _, label in labelled.windows
    ]
    for window, label in zip(windows, made, strict=True):
        window.labels[candidate.name] = label
