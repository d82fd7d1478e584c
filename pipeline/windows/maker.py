"""Turns an episode into the windows of its cameras: triplets, or rejected windows with a reason."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import UInt8

from pipeline.episodes.camera_choice import ALL, chosen_cameras, seen_by
from pipeline.episodes.chunks import DEFAULT_CHUNKS, ChunkConfig, EpisodeChunk, chunks_of, most_frames
from pipeline.flow_sources import Scene, make_flow_source
from pipeline.recipe import Recipe
from pipeline.timing import Stopwatch
from pipeline.windows.adaptive_labels import AdaptiveLabels
from pipeline.windows.labels import label_windows
from pipeline.windows.quality import measure_of
from pipeline.windows.resampling import StepTimes, no_steps, step_times
from pipeline.windows.sample import KeptWindow, SampleBuilder, camera_of_window, wrist_frames
from schemas.episode import BadEpisode, Episode
from schemas.scene_flow import keypoint_grid
from schemas.triplet import Rejected, Triplet, triplet_key

SMALLEST_IMAGE = 32

W = TypeVar("W")


@dataclass(frozen=True)
class CameraWindows(Generic[W]):
    """The windows of a camera, in order of their reference frames."""

    camera: str
    windows: list[W]


@dataclass(frozen=True)
class SkippedCamera:
    """A camera that cannot be used, where all cameras of the episode were chosen."""

    camera: str
    reason: str


class TripletMaker:
    """Turns episodes into triplets; holds the plug-ins that the recipe names."""

    def __init__(self, recipe: Recipe, chunks: ChunkConfig = DEFAULT_CHUNKS):
        self.recipe, self.chunks = recipe, chunks
        self.source, self.builder = make_flow_source(recipe.chosen_flow), SampleBuilder(recipe)

    def cameras(
        self, episode: Episode, keep: Callable[[Triplet | Rejected], W], watch: Stopwatch
    ) -> Iterator[CameraWindows[W] | SkippedCamera]:
        """The chosen cameras of an episode, each with its windows or with the reason why it cannot be used.

        Args:
            keep: converts each window to what is collected, such as an encoded sample, far smaller than a triplet.

        Raises:
            BadEpisode: no camera of the episode can be used, or one that was requested cannot.
        """
        skipped: list[BadEpisode] = []
        cameras = chosen_cameras(episode, self.recipe.cameras)
        for camera in episode.black_cameras if ALL in self.recipe.cameras else ():
            yield SkippedCamera(camera, "black_camera")
        for camera, error in episode.unusable_cameras.items() if ALL in self.recipe.cameras else ():
            yield SkippedCamera(camera, error.code)
        for camera in cameras:
            try:
                windows = [keep(window) for window in self.windows(seen_by(episode, camera), watch)]
            except BadEpisode as error:
                if ALL not in self.recipe.cameras:
                    raise
                skipped.append(error)
                yield SkippedCamera(camera, error.code)
            else:
                yield CameraWindows(camera, windows)
        if len(skipped) == len(cameras):
            raise skipped[0]

    def windows(self, episode: Episode, watch: Stopwatch | None = None) -> Iterator[Triplet | Rejected]:
        """The windows of the primary camera: first those at which no window may begin, then the others in order.

        Raises:
            BadEpisode: the camera cannot be used; windows that were already returned must be discarded.
        """
        watch = watch or Stopwatch()
        windows, view = self.recipe.windows, episode.views[episode.primary]
        _check_size(episode)
        references = []
        for reference in range(0, view.length, windows.stride):
            reason = self._not_begun(episode, reference)
            if reason is None:
                references.append(reference)
            else:
                yield _rejected(episode, reference, reason)
        times = (
            step_times(windows.horizon, windows.horizon_seconds, episode.fps)
            if self.recipe.has_flow
            else no_steps(episode.fps)
        )
        most = most_frames(self.chunks.megapixels, view.size, times.reach)
        chunks = list(chunks_of(view.length, references, times.reach, most)) if references else []
        scene = self.source.observe(episode, len(chunks) > 1, watch)
        for chunk in chunks:
            yield from self._windows_of(scene, chunk, times, watch)

    def _not_begun(self, episode: Episode, frame: int) -> str | None:
        """Why no window may begin at a frame, regardless of its pictures; None if one may."""
        if not _begins(episode, frame) or (not self.recipe.has_flow and _is_over(episode, frame)):
            return "no_action"
        return "no_language" if self.recipe.language == "required" and not episode.instructions_at(frame) else None

    def _windows_of(
        self, whole: Scene, chunk: EpisodeChunk, times: StepTimes, watch: Stopwatch
    ) -> Iterator[Triplet | Rejected]:
        """The windows of one chunk of the episode."""
        episode, scene, quality = whole.episode, whole.slice(chunk), self.recipe.quality
        view = scene.episode.views[scene.episode.primary]
        with watch.stage("read"):
            every = self.source.needs_all_pictures
            frames = view.frames if every else view.some_frames(np.array(chunk.references))
            images = dict(zip(range(view.length) if every else chunk.references, frames, strict=True))
            wrist = wrist_frames(scene.episode, chunk.references)
        if _is_flat(frames):
            if scene.episode is episode:
                name = f"{episode.ref.name}: every frame of {episode.primary}"
                raise BadEpisode("blank_images", f"{name} is one flat colour")
            for reference in chunk.references:
                yield _rejected(episode, chunk.first + reference, "blank_images")
            return
        keypoints = keypoint_grid(*view.size, self.recipe.windows.grid)
        labelled = label_windows(self.source, scene, chunk.references, keypoints, times, quality, watch)
        adaptive = None
        if self.recipe.windows.keypoints == "adaptive" and self.recipe.has_flow:
            adaptive = AdaptiveLabels(self.source, scene, labelled.flow, times, quality, watch)
        for reference, label in labelled.windows:
            frame = chunk.first + reference
            if label.reason is not None:
                yield _rejected(episode, frame, label.reason, label.measures[measure_of(label.reason)])
                continue
            with watch.stage("encode pictures"):
                pictures = self.builder.pictures(images[reference], wrist.get(reference))
            steps = np.minimum(reference + times.frames, view.length - 1)
            camera = camera_of_window(labelled.flow.cameras, steps)
            more = None if adaptive is None else adaptive.of(reference, len(keypoints))
            window = KeptWindow(_key(episode, frame), frame, label, pictures, camera, more)
            yield self.builder.triplet(episode, window, labelled.flow, times)


def _key(episode: Episode, frame: int) -> str:
    return triplet_key(episode.ref.digest, episode.primary, frame)


def _rejected(episode: Episode, frame: int, reason: str, measure: float | None = None) -> Rejected:
    return Rejected(_key(episode, frame), reason, episode.primary, episode.source_frame(frame), measure)


def _begins(episode: Episode, frame: int) -> bool:
    made = episode.standard_actions
    return made is None or made.begins is None or bool(made.begins[frame])


def _is_over(episode: Episode, frame: int) -> bool:
    """Whether the episode has actions, and none after a frame: a sample of it would teach a policy nothing."""
    return bool(episode.action_mask.any()) and not episode.action_mask[frame:].any()


def _check_size(episode: Episode) -> None:
    width, height = episode.views[episode.primary].size
    if min(width, height) < SMALLEST_IMAGE:
        raise BadEpisode(
            "image_too_small",
            f"{episode.ref.name}: images are {width} x {height}, at least {SMALLEST_IMAGE} are needed",
        )


def _is_flat(frames: UInt8[np.ndarray, "T H W 3"]) -> bool:
    """Whether every frame is a single colour."""
    return bool(frames[0].max() == frames[0].min()) and all(f.max() == f.min() for f in frames[1:])
