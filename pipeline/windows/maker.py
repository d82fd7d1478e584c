"""The main path: an episode goes in, its triplets and rejected windows come out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.episodes.camera_choice import ALL, chosen_cameras, seen_by
from pipeline.episodes.chunks import EpisodeChunk, chunks_of, most_frames
from pipeline.flow_sources import EpisodeFlow, make_flow_source
from pipeline.recipe import Recipe
from pipeline.timing import Stopwatch
from pipeline.windows.quality import EvaluatedWindow, evaluate, measure_of
from pipeline.windows.resampling import StepTimes, poses_between, resample, step_times
from schemas.cameras import Cameras
from schemas.episode import BadEpisode, Episode
from schemas.scene_flow import keypoint_grid
from schemas.triplet import ActionChunk, CameraOfWindow, Rejected, Source, Triplet, triplet_key

SMALLEST_IMAGE = 32


@dataclass(frozen=True)
class SkippedCamera:
    """A camera that cannot be used, of an episode of which every camera was wanted."""

    camera: str
    reason: str


class TripletMaker:
    """Turns episodes into triplets; holds the plug-ins that the recipe names."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.generated = recipe.generated_instructions and recipe.generated_instructions.load()
        self.source = make_flow_source(recipe.chosen_flow)

    def make(self, episode: Episode, watch: Stopwatch | None = None) -> Iterator[Triplet | Rejected | SkippedCamera]:
        """The windows of an episode, camera by camera, in order of their reference frames.

        A camera that turns out to be of no use is given as ``SkippedCamera``, and its windows before that count for
        nothing.

        Raises:
            BadEpisode: nothing of the episode can be used, or a camera that was asked for cannot.
        """
        watch = watch or Stopwatch()
        skipped: list[BadEpisode] = []
        cameras = chosen_cameras(episode, self.recipe.cameras)
        for camera in episode.black_cameras if ALL in self.recipe.cameras else ():
            yield SkippedCamera(camera, "black_camera")
        for camera, error in episode.unusable_cameras.items() if ALL in self.recipe.cameras else ():
            yield SkippedCamera(camera, error.code)
        for camera in cameras:
            try:
                yield from self._windows(seen_by(episode, camera), watch)
            except BadEpisode as error:
                if ALL not in self.recipe.cameras:
                    raise
                skipped.append(error)
                yield SkippedCamera(camera, error.code)
        if len(skipped) == len(cameras):
            raise skipped[0]

    def _windows(self, episode: Episode, watch: Stopwatch) -> Iterator[Triplet | Rejected]:
        """The windows of the primary camera.

        Raises:
            BadEpisode: it cannot be used.
        """
        windows, view = self.recipe.windows, episode.views[episode.primary]
        _check_size(episode)
        references = []
        for reference in range(0, view.length, windows.stride):
            reason = self._not_begun(episode, reference)
            if reason is None:
                references.append(reference)
            else:
                key = triplet_key(episode.ref.digest, view.name, reference)
                yield Rejected(key, reason, view.name, episode.source_frame(reference))
        times = step_times(windows.horizon, windows.horizon_seconds, episode.fps)
        most = most_frames(windows.chunk_megapixels, view.size, times.reach)
        chunks = list(chunks_of(view.length, references, times.reach, most)) if references else []
        if len(chunks) > 1 and hasattr(self.source, "see_whole"):
            episode = self.source.see_whole(episode, watch)
        for chunk in chunks:
            yield from self._windows_of(episode, chunk, times, watch)

    def _not_begun(self, episode: Episode, frame: int) -> str | None:
        """Why no window begins at a frame, whatever is seen there."""
        if not _begins(episode, frame):
            return "no_action"
        return "no_language" if self.recipe.language == "required" and not episode.instructions_at(frame) else None

    def _windows_of(
        self, episode: Episode, chunk: EpisodeChunk, times: StepTimes, watch: Stopwatch
    ) -> Iterator[Triplet | Rejected]:
        """The windows of one chunk of the episode."""
        part = chunk.of(episode)
        view, quality = part.views[part.primary], self.recipe.quality
        with watch.stage("read"):
            whole = getattr(self.source, "looks_at_pictures", True)
            frames = view.frames if whole else view.some_frames(np.array(chunk.references))
            pictured = dict(zip(range(part.length) if whole else chunk.references, frames, strict=True))
            wrist = _wrist_frames(part, chunk)
        if _is_flat(frames):
            if part is episode:
                name = f"{episode.ref.name}: every frame of {episode.primary}"
                raise BadEpisode("blank_images", f"{name} is one flat colour")
            for frame in (chunk.first + reference for reference in chunk.references):
                key = triplet_key(episode.ref.digest, view.name, frame)
                yield Rejected(key, "blank_images", view.name, episode.source_frame(frame))
            return
        keypoints = keypoint_grid(*view.size, self.recipe.windows.grid)
        flow = self.source.follow(part, chunk.references, keypoints, times.reach, quality.depth_edge, watch)
        for reference, lifted in flow.windows:
            with watch.stage("lift and evaluate"):
                steps = times.within(part.length - 1 - reference)
                resampled = resample(lifted, times)
                evaluated = evaluate(
                    resampled, steps, times.per_second, flow.cameras.intrinsics, flow.cameras.size, quality
                )
            frame = chunk.first + reference
            key = triplet_key(episode.ref.digest, view.name, frame)
            if evaluated.reason is not None:
                measured = evaluated.measures[measure_of(evaluated.reason)]
                yield Rejected(key, evaluated.reason, view.name, episode.source_frame(frame), measured)
                continue
            with watch.stage("encode pictures"):
                pictures = self._pictures(pictured[reference], wrist.get(reference))
            camera = _camera_of_window(flow.cameras, np.minimum(reference + times.frames, part.length - 1))
            yield self._triplet(key, episode, frame, evaluated, pictures, flow, times, camera)

    def _pictures(self, image: np.ndarray, wrist: np.ndarray | None) -> dict[str, bytes]:
        pictures = {"image": encode_jpeg(image, self.recipe.jpeg_quality)}
        if wrist is not None:
            pictures["wrist"] = encode_jpeg(wrist, self.recipe.jpeg_quality)
        return pictures

    def _triplet(
        self,
        key: str,
        episode: Episode,
        frame: int,
        evaluated: EvaluatedWindow,
        pictures: dict[str, bytes],
        flow: EpisodeFlow,
        times: StepTimes,
        camera: CameraOfWindow,
    ) -> Triplet:
        ref = episode.ref
        following = frame + np.arange(self.recipe.windows.action_horizon)
        has_action = following < episode.length
        following = np.minimum(following, episode.length - 1)
        has_action &= episode.action_mask[following]
        return Triplet(
            key=key,
            episode=ref.digest,
            source=Source(ref.dataset, ref.source, ref.episode, episode.primary, episode.source_frame(frame)),
            images=pictures,
            instructions=episode.instructions_at(frame),
            flow=evaluated.flow,
            point_flags=evaluated.point_flags,
            depth_unit=flow.depth_unit,
            depth_source=flow.depth_source,
            depth_alignment=flow.depth_alignment,
            flow_source=flow.name,
            camera=camera,
            state=episode.state[frame],
            state_names=episode.state_names,
            actions=np.where(has_action[:, None], episode.actions[following], np.float32(0)),
            action_mask=has_action,
            action_convention=episode.action_convention,
            fps=episode.fps,
            success=episode.success,
            quality=evaluated.measures,
            generated_instructions=self.generated.of(ref.digest) if self.generated else (),
            resampled=times.resampled,
            standard_actions=standard_chunk(episode, frame, self.recipe.windows.action_horizon),
        )


def _camera_of_window(cameras: Cameras, steps: Float[np.ndarray, " S"]) -> CameraOfWindow:
    """The camera at the steps of a window, which may lie between frames."""
    return CameraOfWindow(
        size=cameras.size,
        intrinsics=cameras.intrinsics,
        world_from_camera=poses_between(cameras.world_from_camera, steps if cameras.moving else steps[:1]),
        intrinsics_source=cameras.intrinsics_source,
        pose_source=cameras.pose_source,
    )


def _wrist_frames(part: Episode, chunk: EpisodeChunk) -> dict[int, UInt8[np.ndarray, "H W 3"]]:
    """The wrist camera's frames at the reference frames, which is where they are shown."""
    if part.wrist is None:
        return {}
    frames = part.views[part.wrist].some_frames(np.array(chunk.references))
    return dict(zip(chunk.references, frames, strict=True))


def standard_chunk(episode: Episode, frame: int, horizon: int) -> ActionChunk | None:
    """The standard actions after a frame, where the episode has any; zero beyond its end."""
    made = episode.standard_actions
    if made is None:
        return None
    following = frame + np.arange(horizon)
    inside = following < episode.length
    following = np.minimum(following, episode.length - 1)
    mask = inside & made.mask[following]
    values = made.values[following] - (0 if made.origin is None else made.origin[frame])
    return ActionChunk(np.where(mask[:, None], values, np.float32(0)), mask, made.convention)


def _begins(episode: Episode, frame: int) -> bool:
    made = episode.standard_actions
    return made is None or made.begins is None or bool(made.begins[frame])


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"], quality: int) -> bytes:
    """An RGB picture as JPEG."""
    import cv2

    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a picture of {image.shape}")
    return data.tobytes()


def _check_size(episode: Episode) -> None:
    width, height = episode.views[episode.primary].size
    if min(width, height) < SMALLEST_IMAGE:
        raise BadEpisode(
            "image_too_small",
            f"{episode.ref.name}: images are {width} x {height}, at least {SMALLEST_IMAGE} are needed",
        )


def _is_flat(frames: UInt8[np.ndarray, "T H W 3"]) -> bool:
    """Whether nothing can be seen: every frame is one flat colour."""
    return bool(frames[0].max() == frames[0].min()) and all(f.max() == f.min() for f in frames[1:])
