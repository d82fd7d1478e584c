"""The data factory's product: (observation, instruction, dense 3D scene flow), with its source.

A build with ``--flow none`` makes samples without flow, for the policy alone: they have no keypoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8

from schemas.episode import ActionConvention
from schemas.perception import DepthAlignment, DepthNoise
from schemas.scene_flow import SceneFlow

NATIVE = "native"
"""The resampling entry of flow whose steps are the episode's frames."""
NONE = "none"
"""``depth_unit``, ``depth_source`` and ``flow_source`` of a sample without flow."""
UNKNOWN_CAMERA = "unknown"
"""``intrinsics_source`` of a sample without flow whose dataset does not give them: all of them are zero then."""


@dataclass(frozen=True)
class Source:
    """Where a sample comes from: file, episode and frame."""

    dataset: str
    file: str
    episode: str
    camera: str
    frame: int


@dataclass(frozen=True)
class CameraOfWindow:
    """The reference camera, and its poses during the window.

    Attributes:
        size: (width, height) in pixels of the image that the flow belongs to.
        world_from_camera: one pose when the camera stands still, else one for each step 0..T.
    """

    size: tuple[int, int]
    intrinsics: Float[np.ndarray, "3 3"]
    world_from_camera: Float[np.ndarray, "P 4 4"]
    intrinsics_source: str
    pose_source: str


@dataclass(frozen=True)
class GeneratedInstruction:
    """A text that a model wrote, not a person.

    Attributes:
        style: ``imperative``, ``stepwise`` or ``request``.
        model: which model, with its revision.
    """

    text: str
    style: str
    model: str


@dataclass(frozen=True)
class ActionChunk:
    """The actions after a reference frame, in a convention; zero where the mask is false."""

    values: Float[np.ndarray, "H A"]
    mask: Bool[np.ndarray, " H"]
    convention: ActionConvention


@dataclass(frozen=True)
class AdaptiveFlow:
    """Flow of keypoints beside the regular grid, denser where things move (``pipeline.windows.adaptive_points``).

    Attributes:
        flow: over the same steps and in the same camera as the grid's.
        point_flags: ``schemas.scene_flow.PointFlag`` bits of each.
    """

    flow: SceneFlow
    point_flags: UInt8[np.ndarray, " K"]


@dataclass(frozen=True)
class Resampling:
    """Flow whose steps are not the episode's frames.

    Attributes:
        step_seconds: time from one step to the next.
        description: how it was made, e.g. ``32 steps over 2 s from 5 fps, interpolated``.
    """

    step_seconds: float
    description: str


@dataclass(frozen=True)
class Triplet:
    """One training sample.

    Attributes:
        key: unique in a dataset, sorts by episode, camera and frame; safe in file names.
        episode: digest of the episode; samples that share it must not be split between training and validation.
        images: encoded pictures by role: ``image`` (the reference frame) and, where there is one, ``wrist``.
        instructions: all texts; may be empty if the build kept episodes without language.
        flow: keypoints over steps 0..T in the camera of the reference frame.
        point_flags: ``schemas.scene_flow.PointFlag`` bits of each keypoint.
        depth_unit: ``m`` or ``relative``: the unit of z in flow; ``none`` without flow.
        depth_source: the estimator and its input.
        flow_source: the tracker.
        state: proprioception at the reference frame.
        actions: the actions after the reference frame, in the episode's own (raw) convention; zero where the mask is
            false.
        action_mask: whether the episode has that action; false after its end.
        fps: frames per second of the episode: of actions, and of flow unless it was resampled.
        success: the episode's outcome according to the dataset.
        quality: what the checks measured of this window, by name (``pipeline.windows.quality.CHECKS``), so that
            stricter thresholds can be applied without another build.
        generated_instructions: texts that a model wrote; never among ``instructions``.
        standard_actions: the same actions in the commonly used form; None where that is the raw form, or unknown.
        resampled: how flow was resampled to steps of another length; None where each step is a frame.
        depth_alignment: how estimated depth was scaled to metres over the whole episode; None where it was not
            aligned.
        adaptive: more keypoints, in builds with ``--keypoints adaptive``; ``flow`` is the regular grid's all the same.
        depth_noise: of the depth from frame to frame; None where there was none, or it was not measured.
    """

    key: str
    episode: str
    source: Source
    images: dict[str, bytes]
    instructions: tuple[str, ...]
    flow: SceneFlow
    point_flags: UInt8[np.ndarray, " K"]
    depth_unit: str
    depth_source: str
    flow_source: str
    camera: CameraOfWindow
    state: Float[np.ndarray, " S"]
    state_names: tuple[str, ...]
    actions: Float[np.ndarray, "H A"]
    action_mask: Bool[np.ndarray, " H"]
    action_convention: ActionConvention
    fps: float
    success: bool | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    generated_instructions: tuple[GeneratedInstruction, ...] = ()
    standard_actions: ActionChunk | None = None
    resampled: Resampling | None = None
    depth_alignment: DepthAlignment | None = None
    adaptive: AdaptiveFlow | None = None
    depth_noise: DepthNoise | None = None

    @property
    def has_flow(self) -> bool:
        """Whether flow was measured; only builds with ``--flow none`` make samples without."""
        return len(self.point_flags) > 0

    @property
    def no_language(self) -> bool:
        """Whether the sample has no instruction; only builds set to keep such episodes have these."""
        return not self.instructions

    @property
    def step_seconds(self) -> float:
        """Seconds from one step of flow to the next."""
        return 1 / self.fps if self.resampled is None else self.resampled.step_seconds

    @property
    def resampling(self) -> str:
        """``native``, or how flow was resampled, in words."""
        return NATIVE if self.resampled is None else self.resampled.description


@dataclass(frozen=True)
class Rejected:
    """A window that the quality checks rejected.

    Attributes:
        camera, frame: where it is in its episode.
        measure: the value measured by the check that failed, if it measures one.
    """

    key: str
    reason: str
    camera: str
    frame: int
    measure: float | None = None


def triplet_key(episode_digest: str, camera: str, frame: int) -> str:
    """``<episode digest>-<camera>-<frame>``: without dots and slashes, so that webdataset does not split it."""
    return f"{episode_digest}-{camera_in_key(camera)}-{frame:06d}"


def frame_in_key(key: str) -> int:
    """The frame that ``triplet_key`` put there."""
    return int(key.rsplit("-", 1)[1])


def camera_in_key(camera: str) -> str:
    """A camera's name in keys; names that differ only in punctuation become the same."""
    return "".join(c if c.isalnum() or c in "_" else "_" for c in camera)
