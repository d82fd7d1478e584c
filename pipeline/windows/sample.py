"""The sample of a window: its label with pictures, camera, state, actions and instructions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.flow_sources import EpisodeFlow
from pipeline.recipe import Recipe
from pipeline.vision.poses import poses_between
from pipeline.windows.quality import EvaluatedWindow
from pipeline.windows.resampling import StepTimes
from schemas.cameras import Cameras
from schemas.episode import Episode
from schemas.triplet import ActionChunk, AdaptiveFlow, CameraOfWindow, Source, Triplet


@dataclass(frozen=True)
class KeptWindow:
    """A window that passed the quality checks.

    Attributes:
        key: of its sample.
        frame: its reference frame's number in the episode.
        pictures: JPEG bytes of the reference frame by role: ``image``, ``wrist``.
        camera: at the window's steps.
        adaptive: more keypoints, if the recipe has them.
    """

    key: str
    frame: int
    label: EvaluatedWindow
    pictures: dict[str, bytes]
    camera: CameraOfWindow
    adaptive: AdaptiveFlow | None = None


class SampleBuilder:
    """Builds the samples of a recipe."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.generated = recipe.generated_instructions and recipe.generated_instructions.load()

    def pictures(self, image: UInt8[np.ndarray, "H W 3"], wrist: UInt8[np.ndarray, "h w 3"] | None) -> dict[str, bytes]:
        """Encoded pictures of a sample, by role."""
        frames = {"image": image} if wrist is None else {"image": image, "wrist": wrist}
        return {role: encode_jpeg(frame, self.recipe.jpeg_quality) for role, frame in frames.items()}

    def triplet(self, episode: Episode, window: KeptWindow, flow: EpisodeFlow, times: StepTimes) -> Triplet:
        """The sample of a window.

        Args:
            episode: the whole episode, in which ``window.frame`` is counted.
            flow: the source of the window's flow.
            times: of the window's steps.
        """
        ref, frame, horizon = episode.ref, window.frame, self.recipe.windows.action_horizon
        following = frame + np.arange(horizon)
        has_action = following < episode.length
        following = np.minimum(following, episode.length - 1)
        has_action &= episode.action_mask[following]
        return Triplet(
            key=window.key,
            episode=ref.digest,
            source=Source(ref.dataset, ref.source, ref.episode, episode.primary, episode.source_frame(frame)),
            images=window.pictures,
            instructions=episode.instructions_at(frame),
            flow=window.label.flow,
            point_flags=window.label.point_flags,
            depth_unit=flow.depth_unit,
            depth_source=flow.depth_source,
            depth_alignment=flow.depth_alignment,
            depth_noise=flow.depth_noise,
            flow_source=flow.name,
            camera=window.camera,
            state=episode.state[frame],
            state_names=episode.state_names,
            actions=np.where(has_action[:, None], episode.actions[following], np.float32(0)),
            action_mask=has_action,
            action_convention=episode.action_convention,
            fps=episode.fps,
            success=episode.success,
            quality=window.label.measures,
            generated_instructions=self.generated.of(ref.digest) if self.generated else (),
            resampled=times.resampled,
            standard_actions=standard_chunk(episode, frame, horizon),
            adaptive=window.adaptive,
        )


def camera_of_window(cameras: Cameras, steps: Float[np.ndarray, " S"]) -> CameraOfWindow:
    """The camera at the steps of a window, which may lie between frames."""
    return CameraOfWindow(
        size=cameras.size,
        intrinsics=cameras.intrinsics,
        world_from_camera=poses_between(cameras.world_from_camera, steps if cameras.moving else steps[:1]),
        intrinsics_source=cameras.intrinsics_source,
        pose_source=cameras.pose_source,
    )


def wrist_frames(episode: Episode, references: Sequence[int]) -> dict[int, UInt8[np.ndarray, "H W 3"]]:
    """The wrist camera's frames at the reference frames; samples hold no others."""
    if episode.wrist is None:
        return {}
    frames = episode.views[episode.wrist].some_frames(np.array(references))
    return dict(zip(references, frames, strict=True))


def standard_chunk(episode: Episode, frame: int, horizon: int) -> ActionChunk | None:
    """The standard actions after a frame, where the episode has any; zero after its end."""
    made = episode.standard_actions
    if made is None:
        return None
    following = frame + np.arange(horizon)
    inside = following < episode.length
    following = np.minimum(following, episode.length - 1)
    mask = inside & made.mask[following]
    values = made.values[following] - (0 if made.origin is None else made.origin[frame])
    return ActionChunk(np.where(mask[:, None], values, np.float32(0)), mask, made.convention)


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"], quality: int) -> bytes:
    """An RGB picture as JPEG."""
    import cv2

    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a picture of {image.shape}")
    return data.tobytes()
