"""The main path: an episode goes in, its triplets and rejected windows come out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from pipeline.chosen_cameras import ALL, chosen_cameras, seen_by
from pipeline.flow_sources import EpisodeFlow
from pipeline.quality import Judged, judge, measure_of
from pipeline.recipe import Recipe
from pipeline.resampling import StepTimes, poses_between, resample, step_times
from pipeline.stopwatch import Stopwatch
from schemas.episode import BadEpisode, Episode
from schemas.plugins import load_plugin
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
        self.source = load_plugin("pipeline.flow_sources", recipe.flow.name).build(recipe.configs()["flow_sources"])

    def make(self, episode: Episode, watch: Stopwatch | None = None) -> Iterator[Triplet | Rejected | SkippedCamera]:
        """The windows of an episode, camera by camera, in order of their reference frames.

        Raises:
            BadEpisode: nothing of the episode can be used, or a camera that was asked for cannot.
        """
        watch = watch or Stopwatch()
        skipped: list[BadEpisode] = []
        cameras = chosen_cameras(episode, self.recipe.cameras)
        for camera in cameras:
            windows = self._windows(seen_by(episode, camera), watch)
            if ALL in self.recipe.cameras:
                try:
                    windows = list(windows)  # all of a camera, or nothing
                except BadEpisode as error:
                    skipped.append(error)
                    yield SkippedCamera(camera, error.code)
                    continue
            yield from windows
        if len(skipped) == len(cameras):
            raise skipped[0]

    def _windows(self, episode: Episode, watch: Stopwatch) -> Iterator[Triplet | Rejected]:
        """The windows of the primary camera.

        Raises:
            BadEpisode: it cannot be used.
        """
        windows, view = self.recipe.windows, episode.views[episode.primary]
        with watch.stage("read"):
            frames = view.frames
            wrist = episode.views[episode.wrist].frames if episode.wrist else None
        _check_frames(episode, frames)
        references = []
        for reference in range(0, len(frames), windows.stride):
            if _begins(episode, reference):
                references.append(reference)
            else:
                key = triplet_key(episode.ref.digest, view.name, reference)
                yield Rejected(key, "no_action", view.name, episode.source_frame(reference))
        if not references:
            return
        keypoints = keypoint_grid(*view.size, windows.grid)
        quality = self.recipe.quality
        times = step_times(windows.horizon, windows.horizon_seconds, episode.fps)
        flow = self.source.follow(episode, references, keypoints, times.reach, quality.depth_edge, watch)
        for reference, lifted in flow.windows:
            with watch.stage("lift and judge"):
                steps = times.within(len(frames) - 1 - reference)
                resampled = resample(lifted, times)
                judged = judge(resampled, steps, times.per_second, flow.cameras.intrinsics, flow.cameras.size, quality)
            key = triplet_key(episode.ref.digest, view.name, reference)
            if judged.reason is not None:
                measured = judged.measures[measure_of(judged.reason)]
                yield Rejected(key, judged.reason, view.name, episode.source_frame(reference), measured)
                continue
            with watch.stage("encode pictures"):
                pictures = self._pictures(frames, wrist, reference)
            yield self._triplet(key, episode, reference, judged, pictures, flow, times)

    def _pictures(self, frames: np.ndarray, wrist: np.ndarray | None, frame: int) -> dict[str, bytes]:
        pictures = {"image": encode_jpeg(frames[frame], self.recipe.jpeg_quality)}
        if wrist is not None:
            pictures["wrist"] = encode_jpeg(wrist[frame], self.recipe.jpeg_quality)
        return pictures

    def _triplet(
        self,
        key: str,
        episode: Episode,
        frame: int,
        judged: Judged,
        pictures: dict[str, bytes],
        flow: EpisodeFlow,
        times: StepTimes,
    ) -> Triplet:
        ref = episode.ref
        cameras = flow.cameras
        following = frame + np.arange(self.recipe.windows.action_horizon)
        has_action = following < episode.length
        following = np.minimum(following, episode.length - 1)
        has_action &= episode.action_mask[following]
        steps = np.minimum(frame + times.frames, episode.length - 1)
        return Triplet(
            key=key,
            episode=ref.digest,
            source=Source(ref.dataset, ref.source, ref.episode, episode.primary, episode.source_frame(frame)),
            images=pictures,
            instructions=episode.instructions,
            flow=judged.flow,
            point_flags=judged.point_flags,
            depth_unit=flow.depth_unit,
            depth_source=flow.depth_source,
            depth_alignment=flow.depth_alignment,
            flow_source=flow.name,
            camera=CameraOfWindow(
                size=cameras.size,
                intrinsics=cameras.intrinsics,
                world_from_camera=poses_between(cameras.world_from_camera, steps if cameras.moving else steps[:1]),
                intrinsics_source=cameras.intrinsics_source,
                pose_source=cameras.pose_source,
            ),
            state=episode.state[frame],
            state_names=episode.state_names,
            actions=np.where(has_action[:, None], episode.actions[following], np.float32(0)),
            action_mask=has_action,
            action_convention=episode.action_convention,
            fps=episode.fps,
            success=episode.success,
            quality=judged.measures,
            generated_instructions=self.generated.of(ref.digest) if self.generated else (),
            resampled=times.resampled,
            standard_actions=standard_chunk(episode, frame, self.recipe.windows.action_horizon),
        )


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


def _check_frames(episode: Episode, frames: np.ndarray) -> None:
    if min(frames.shape[1:3]) < SMALLEST_IMAGE:
        raise BadEpisode(
            "image_too_small",
            f"{episode.ref.name}: images are {frames.shape[2]} x {frames.shape[1]}, at least {SMALLEST_IMAGE} are needed",
        )
    if frames[0].max() == frames[0].min() and all(f.max() == f.min() for f in frames[1:]):
        raise BadEpisode("blank_images", f"{episode.ref.name}: every frame of {episode.primary} is one flat colour")
