"""The main path: an episode goes in, its triplets and rejected windows come out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from pipeline.lift import depth_edges, lift_tracks
from pipeline.quality import Judged, judge
from pipeline.recipe import Recipe
from schemas.cameras import Cameras
from schemas.episode import BadEpisode, Episode
from schemas.perception import DepthMaps
from schemas.plugins import load_plugin
from schemas.scene_flow import keypoint_grid
from schemas.triplet import CameraOfWindow, Rejected, Source, Triplet, triplet_key

SMALLEST_IMAGE = 32


@dataclass
class Stopwatch:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block's time under a name."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class TripletMaker:
    """Turns episodes into triplets; holds the plug-ins that the recipe names."""

    def __init__(self, recipe: Recipe):
        configs = recipe.configs()
        self.recipe = recipe
        self.tracker = load_plugin("pipeline.trackers", recipe.tracker.name).build(configs["trackers"])
        self.depth = load_plugin("pipeline.depth", recipe.depth.name).build(configs["depth"])
        self.camera = load_plugin("pipeline.cameras", recipe.camera.name).build(configs["cameras"])

    def make(self, episode: Episode, watch: Stopwatch | None = None) -> Iterator[Triplet | Rejected]:
        """The windows of an episode, in order of their reference frames.

        Raises:
            BadEpisode: nothing of the episode can be used.
        """
        watch = watch or Stopwatch()
        windows, view = self.recipe.windows, episode.views[episode.primary]
        if self.recipe.language == "required" and not episode.instructions:
            raise BadEpisode(
                "no_language", f"{episode.ref.name} has no instruction; --language optional keeps such episodes"
            )
        with watch.stage("read"):
            frames = view.frames
            wrist = episode.views[episode.wrist].frames if episode.wrist else None
        _check_frames(episode, frames)
        with watch.stage("depth"):
            depth = self.depth.estimate(view)
            edges = depth_edges(depth.depth, self.recipe.quality.depth_edge)
        with watch.stage("camera"):
            cameras = self.camera.solve(view, depth)
        with watch.stage("track"):
            references = range(0, len(frames), windows.stride)
            keypoints = keypoint_grid(*view.size, windows.grid)
            tracks = self.tracker.track(frames, references, keypoints, windows.horizon)
        for track in tracks:
            with watch.stage("lift and judge"):
                steps = min(windows.horizon, len(frames) - 1 - track.reference)
                lifted = lift_tracks(track, depth, edges, cameras)
                judged = judge(lifted, steps, episode.fps, cameras.intrinsics, cameras.size, self.recipe.quality)
            key = triplet_key(episode.ref.digest, view.name, track.reference)
            if judged.reason is not None:
                yield Rejected(key, judged.reason)
                continue
            with watch.stage("encode pictures"):
                pictures = self._pictures(frames, wrist, track.reference)
            yield self._triplet(key, episode, track.reference, judged, pictures, depth, cameras)

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
        depth: DepthMaps,
        cameras: Cameras,
    ) -> Triplet:
        ref = episode.ref
        following = frame + np.arange(self.recipe.windows.action_horizon)
        has_action = following < episode.length
        following = np.minimum(following, episode.length - 1)
        has_action &= episode.action_mask[following]
        steps = np.minimum(frame + np.arange(judged.flow.horizon + 1), episode.length - 1)
        return Triplet(
            key=key,
            episode=ref.digest,
            source=Source(ref.dataset, ref.source, ref.episode, episode.primary, frame),
            images=pictures,
            instructions=episode.instructions,
            flow=judged.flow,
            point_flags=judged.point_flags,
            depth_unit=depth.unit,
            depth_source=depth.source,
            flow_source=self.recipe.tracker.name,
            camera=CameraOfWindow(
                size=cameras.size,
                intrinsics=cameras.intrinsics,
                world_from_camera=cameras.world_from_camera[steps if cameras.moving else steps[:1]],
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
        )


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
