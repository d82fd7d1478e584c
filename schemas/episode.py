"""A robot episode as a reader returns it: upright pictures, states, actions, instructions and the source file."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from schemas.cameras import intrinsics_from_fov

BLACK_CAMERAS = "black_cameras"
"""The note in which a reader names them."""


class BadEpisode(Exception):
    """The episode's data cannot be used; it is quarantined with this reason, and the other episodes are still built.

    Attributes:
        code: a short name under which such cases are counted, e.g. ``no_depth``.
    """

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""Allowed dataset names. Shards and folders contain the name, so it must be safe on any file system and shell."""


def check_dataset_name(name: str, what: str = "a dataset's name") -> None:
    """Refuse a name that is not safe in file names.

    Args:
        what: what the name belongs to, for the message.

    Raises:
        ValueError: the name is not allowed.
    """
    if not DATASET_NAME.fullmatch(name):
        raise ValueError(
            f"{what} may hold letters from A to Z, digits, '_', '-' and '.', begins with a letter or digit and has "
            f"at most 100 characters, found {name!r}"
        )


@dataclass(frozen=True)
class DatasetInfo:
    """Who made the data and under which terms; goes into the manifest.

    Attributes:
        name: shard names contain it; see ``check_dataset_name``.
    """

    name: str
    version: str
    licence: str
    credit: str

    def __post_init__(self) -> None:
        check_dataset_name(self.name)


@dataclass(frozen=True)
class EpisodeRef:
    """Names an episode without reading it.

    Attributes:
        dataset: the dataset's name, e.g. ``libero``.
        source: path of the file relative to the dataset's folder, with ``/``.
        episode: the episode's name in that file, e.g. ``demo_3``.
        path: where that file is on this machine.
        fingerprint: changes when the file does (size and modification time). It decides what is built again. It is not
            written to the output, so a copied dataset gives the same shards.
        split: the dataset's split, where its files name one.
        span: offset and size in bytes of its record, where the file holds many, so that reading needs no search.
    """

    dataset: str
    source: str
    episode: str
    path: str
    fingerprint: str
    split: str | None = None
    span: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The episode's name in messages."""
        return f"{self.source}:{self.episode}"

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the episode, independent of the dataset's location."""
        text = "\n".join((self.dataset, self.source, self.episode))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RecordedDepth:
    """Depth recorded with the episode.

    Attributes:
        read: loads it as T x H x W float32 depth along the optical axis in ``unit``; not finite or <= 0 where there is
            none.
        unit: ``m``.
        description: how the stored numbers were converted, e.g. ``normalised z-buffer, near 0.01 m, far 530 m``.
        read_some: see ``CameraView.read_some``.
    """

    read: Callable[[], Float[np.ndarray, "T H W"]]
    unit: str
    description: str
    read_some: Callable[[Int[np.ndarray, " N"]], Float[np.ndarray, "N H W"]] | None = None

    def some(self, frames: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N H W"]:
        """The depth of some frames; see ``CameraView.some_frames``."""
        return self.read()[frames] if self.read_some is None else self.read_some(frames)


@dataclass(frozen=True)
class RecordedSimulation:
    """The simulator's states recorded with the episode; the scene can be rendered again from them.

    Attributes:
        read: loads the model (MuJoCo XML) and the flattened state (time, positions, velocities) that each frame shows,
            T x D; NaN where it was not recorded.
        camera: the model's name of this view's camera.
    """

    read: Callable[[], tuple[str, Float[np.ndarray, "T D"]]]
    camera: str


@dataclass(frozen=True)
class StereoPair:
    """The right eye of a stereo camera; the left one is the view itself.

    Attributes:
        read_right: loads the right eye's frames, at the size and the moments of the view's own. Both eyes are
            rectified: a point lies on the same row of both, and its depth is focal length (px) times ``baseline_m``
            over disparity.
        baseline_m: distance of the two eyes.
        read_some: see ``CameraView.read_some``.
    """

    read_right: Callable[[], UInt8[np.ndarray, "T H W 3"]]
    baseline_m: float
    read_some: Callable[[Int[np.ndarray, " N"]], UInt8[np.ndarray, "N H W 3"]] | None = None

    def some(self, frames: Int[np.ndarray, " N"]) -> UInt8[np.ndarray, "N H W 3"]:
        """Some frames of the right eye; see ``CameraView.some_frames``."""
        return self.read_right()[frames] if self.read_some is None else self.read_some(frames)


@dataclass(frozen=True)
class CameraKind:
    """The kind of camera that a dataset was recorded with, used where no measured intrinsics are given.

    Attributes:
        name: its common name.
        fov_y_degrees: vertical field of view that is typical of it.
        aspect: width over height of its original pictures; stored ones may have been resized to another ratio.
    """

    name: str
    fov_y_degrees: float
    aspect: float

    def intrinsics(self, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
        """Typical intrinsics for pictures of (width, height) px, whatever their aspect ratio."""
        width, height = size
        made = intrinsics_from_fov(self.fov_y_degrees, width, height)
        made[0, 0] *= width / (height * self.aspect)
        return made


@dataclass(frozen=True)
class CameraView:
    """One camera's part of an episode.

    Attributes:
        name: the dataset's own name of the camera.
        read_frames: loads all frames, upright and unmirrored RGB. Pixels are read only on this call.
        length: T, the number of frames.
        intrinsics: at the resolution of the frames, or None when the dataset does not give them.
        intrinsics_source: where they come from.
        world_from_camera: pose of each frame, or one pose when the camera stands still, or None when unknown.
        fixed: the dataset says that this camera does not move within an episode.
        depth: recorded depth, if any.
        simulation: recorded simulator states, if any.
        stereo: the right eye, where the camera has two.
        kind: the kind of camera, used where there are no intrinsics.
        short: number of pictures missing at the end of its file; windows end before those.
        read_some: loads the frames with the given ascending numbers; None where only all can be loaded at once.
            Successive calls with ascending numbers read or decode each frame once.
    """

    name: str
    read_frames: Callable[[], UInt8[np.ndarray, "T H W 3"]]
    length: int
    size: tuple[int, int]
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    intrinsics_source: str = "unknown"
    world_from_camera: Float[np.ndarray, "P 4 4"] | None = None
    pose_source: str = "unknown"
    fixed: bool = False
    depth: RecordedDepth | None = None
    simulation: RecordedSimulation | None = None
    stereo: StereoPair | None = None
    read_some: Callable[[Int[np.ndarray, " N"]], UInt8[np.ndarray, "N H W 3"]] | None = None
    kind: CameraKind | None = None
    short: int = 0

    @cached_property
    def frames(self) -> UInt8[np.ndarray, "T H W 3"]:
        """The frames, loaded once and kept."""
        return self.read_frames()

    def some_frames(self, frames: Int[np.ndarray, " N"]) -> UInt8[np.ndarray, "N H W 3"]:
        """The frames with these ascending numbers; not cached, so a long episode can be read chunk by chunk."""
        if "frames" in self.__dict__ or self.read_some is None:
            return self.frames[frames]
        return self.read_some(frames)


@dataclass(frozen=True)
class RobotJoints:
    """What the robot's joints measured at each frame.

    Attributes:
        names: as in the robot's description (URDF), without what comes before: ``joint1`` of ``panda_joint1``.
        positions: radians, or metres where a joint slides.
        world_from_base: pose of the description's first link in the world of the cameras' poses, 4 x 4.
    """

    names: tuple[str, ...]
    positions: Float[np.ndarray, "T J"]
    world_from_base: Float[np.ndarray, "4 4"]


@dataclass(frozen=True)
class ActionConvention:
    """The meaning of an action's numbers.

    Attributes:
        name: e.g. ``libero_osc_delta``.
        dimensions: one word for each dimension.
        description: frames, units and signs in a sentence; the gripper's sign above all.
    """

    name: str
    dimensions: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class StandardActions:
    """Actions in the form commonly used to train on a dataset (``pipeline.actions``).

    Attributes:
        values: at each frame; ``values[t]`` belongs to the step after frame t, as the raw action does.
        mask: whether there is such an action.
        origin: what is subtracted from every action of a chunk: its value at the chunk's first frame. None where
            actions are not relative to the chunk's first frame.
        begins: whether a window may begin at the frame; false where a filter excluded it.
    """

    values: Float[np.ndarray, "T A"]
    mask: Bool[np.ndarray, " T"]
    convention: ActionConvention
    origin: Float[np.ndarray, "T A"] | None = None
    begins: Bool[np.ndarray, " T"] | None = None


@dataclass(frozen=True)
class Episode:
    """An episode, in time order.

    Attributes:
        views: cameras by their names.
        primary: the camera in which flow is expressed unless another is chosen; not among the views if it is black.
        wrist: a camera on the hand, if there is one.
        instructions: every text that the dataset gives, without blank ones.
        frame_instructions: the texts of each frame (T entries), some of ``instructions`` or none, where they change
            within the episode; None where every text belongs to every frame.
        fps: frames per second at which the frames were recorded.
        state: proprioception at each frame.
        state_names: one word for each dimension of it.
        actions: ``actions[t]`` is the action taken *after* seeing frame t.
        action_mask: whether there is such an action (the last frame may have none).
        success: the outcome according to the dataset.
        source_frames: the number of each frame in the source files, where frames were left out and it is not simply 0
            to T - 1.
        other_actions: further forms of the action that the file holds at each frame, by the dataset's own names.
        standard_actions: the commonly used form, where there is one; made by the build, not by readers.
        unusable_cameras: the reason by name, for cameras that the data name and whose pictures cannot be read. They are
            not among the views; the episode is unusable only if one of them is requested.
        tools_xyz: see ``tool_positions``; given where the state does not hold it as x, y, z.
        joints: of the robot, where they and its place are known.
    """

    ref: EpisodeRef
    views: dict[str, CameraView]
    primary: str
    wrist: str | None
    instructions: tuple[str, ...]
    fps: float
    state: Float[np.ndarray, "T S"]
    state_names: tuple[str, ...]
    actions: Float[np.ndarray, "T A"]
    action_mask: Bool[np.ndarray, " T"]
    action_convention: ActionConvention
    success: bool | None = None
    notes: dict[str, str] = field(default_factory=dict)
    source_frames: Int[np.ndarray, " T"] | None = None
    other_actions: dict[str, Float[np.ndarray, "T _"]] = field(default_factory=dict)
    standard_actions: StandardActions | None = None
    tools_xyz: Float[np.ndarray, "N T 3"] | None = None
    frame_instructions: tuple[tuple[str, ...], ...] | None = None
    unusable_cameras: dict[str, BadEpisode] = field(default_factory=dict)
    joints: RobotJoints | None = None

    def instructions_at(self, frame: int) -> tuple[str, ...]:
        """The texts that belong to a frame; the same list at every frame of most datasets."""
        return self.instructions if self.frame_instructions is None else self.frame_instructions[frame]

    @property
    def tool_positions(self) -> Float[np.ndarray, "N T 3"] | None:
        """Position of each of the robot's tools at each frame, in the world frame of the cameras' poses, in metres;
        None where it is unknown.
        """
        if self.tools_xyz is not None or not {"x", "y", "z"} <= set(self.state_names):
            return self.tools_xyz
        return self.state[None, :, [self.state_names.index(axis) for axis in "xyz"]]

    @property
    def length(self) -> int:
        """T, the number of frames."""
        return next(iter(self.views.values())).length

    @property
    def black_cameras(self) -> tuple[str, ...]:
        """Cameras that the data name and whose frames are all black; they are not among ``views``."""
        said = self.notes.get(BLACK_CAMERAS, "")
        return tuple(said.split(", ")) if said else ()

    def source_frame(self, frame: int) -> int:
        """A frame's number in the source files."""
        return frame if self.source_frames is None else int(self.source_frames[frame])
