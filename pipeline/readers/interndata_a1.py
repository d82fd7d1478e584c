"""InternData-A1, simulated, 30 fps: LeRobot v2.1 and v3.0 with calibration columns, five robots with one arm or two.

* ``<camera>_camera_intrinsics`` holds **fx, fy, cx, cy** in pixels of the stored video.
* ``<camera>_camera_to_robot_extrinsics`` holds x, y, z and a quaternion **w, x, y, z**: the camera's pose in the robot,
  OpenCV axes.
* Published converters for Franka write the *hand* camera's pose into the head camera's column. The hand camera always
  sees the tool, so the check that the tool is in view does not find this error. A check that the pose does not move
  with the hand does. Such poses are refused.
* A robot with one arm has no moving head: its ``head`` camera is fixed beside it. On a robot with two arms a camera
  counts as fixed only if its poses show it.
* Datasets may be nested at any depth, packed (``*.tar.gz``, as they are published) or unpacked.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.errors import UnreadableSource
from pipeline.formats.discovery import list_forms
from pipeline.formats.lerobot import LeRobotEpisode, list_lerobot, read_lerobot
from pipeline.formats.lerobot_meta import LeRobotMeta
from pipeline.readers import EpisodeTexts
from pipeline.readers._camera_views import (
    enough_frames,
    find_cameras,
    numbers,
    view_of_lerobot,
    words_of_tasks,
)
from pipeline.readers._instructions import instructions_of
from pipeline.readers._lerobot_tar import CacheConfig, is_packed, list_packed, read_packed
from pipeline.readers._pose_check import intrinsics_fault, mounted_on, pose_fault
from schemas.cameras import pose_from_quaternion
from schemas.episode import ActionConvention, CameraView, DatasetInfo, Episode, EpisodeRef

INFO = DatasetInfo(
    name="interndata-a1",
    version="sim_updated",
    licence="CC BY-NC-SA 4.0 (non-commercial; so are shards made from it)",
    credit="InternRobotics, InternData-A1, 2025",
)
PRIMARY = "images.rgb.head"
CAMERAS = (PRIMARY, "images.rgb.hand", "images.rgb.hand_right", "images.rgb.hand_left")
ARMS = (("",), ("left_", "right_"))
STILL_M = 1e-4
"""A camera whose pose changes by less is fixed."""


@dataclass(frozen=True)
class Config(CacheConfig):
    """Where packed datasets are unpacked to be read."""


def build(config: Config) -> "InternDataReader":
    """The reader."""
    return InternDataReader(config)


class InternDataReader:
    """See ``pipeline.readers.Reader``."""

    def __init__(self, config: Config | None = None):
        self._cache = (config or Config()).open_cache()

    def list_episodes(self, root: Path, form: str | None = None) -> Iterator[EpisodeRef | UnreadableSource]:
        """Every episode of every LeRobot folder below, however deep, packed or not."""
        lister = partial(list_lerobot, INFO.name, is_ours=missing_key)
        listers = {"lerobot": lister, "tar.gz": partial(list_packed, self._cache, lister)}
        what, put = (
            "LeRobot folder or *.tar.gz",
            "InternData-A1's archives, or its unpacked folders (each with a meta/info.json),",
        )
        return list_forms(root, listers, what, put, form)

    def read(self, ref: EpisodeRef) -> Episode:
        """One episode; its frames are decoded on demand."""
        if is_packed(ref):
            return read_packed(self._cache, ref, self.read)
        return _episode(ref, read_lerobot(ref))

    def words(self, ref: EpisodeRef) -> EpisodeTexts:
        """See ``pipeline.readers.TellsWords``; packed episodes are unpacked to read them."""
        if is_packed(ref):
            episode = self.read(ref)
            return EpisodeTexts(episode.instructions, episode.success)
        return words_of_tasks(read_lerobot(ref))


def missing_key(meta: LeRobotMeta) -> str | None:
    """What is missing if this is not InternData-A1."""
    if PRIMARY not in meta.features:
        return PRIMARY
    arms = _arms_of(meta)
    missing = [key for arm in arms for key in _keys("states", arm) + _keys("actions", arm) if key not in meta.features]
    return ", ".join(missing) or None


def _arms_of(meta: LeRobotMeta) -> tuple[str, ...]:
    return ARMS[1] if "states.left_joint.position" in meta.features else ARMS[0]


def _keys(kind: str, arm: str) -> tuple[str, str]:
    return f"{kind}.{arm}joint.position", f"{kind}.{arm}gripper.position"


def _episode(ref: EpisodeRef, table: LeRobotEpisode) -> Episode:
    enough_frames(ref, table.length)
    arms = _arms_of(table.meta)
    state, names = _joints(ref, table, "states", arms)
    actions, action_names = _joints(ref, table, "actions", arms)
    tools = [tool for arm in arms if (tool := _tool(table, arm)) is not None]
    there, views, notes = [key for key in CAMERAS if key in table.meta.features], {}, {}
    cameras = find_cameras(
        ref, {key: partial(view_of_lerobot, table, key, key == PRIMARY and len(arms) == 1) for key in there}
    )
    for key, view in cameras.views.items():
        views[key], refused = _calibrated(view, table, tools)
        notes |= {f"calibration of {key}": refused} if refused else {}
    told = instructions_of([table.tasks()], table.length)
    return Episode(
        ref=ref,
        views=views,
        primary=PRIMARY,
        wrist=next((key for key in CAMERAS[1:] if key in views), None),
        instructions=told.every,
        fps=table.meta.fps,
        state=state,
        state_names=names,
        actions=actions,
        action_mask=np.ones(table.length, bool),
        action_convention=_convention(action_names),
        notes=notes | cameras.notes,
        tools_xyz=np.stack(tools) if tools else None,
        frame_instructions=told.by_frame,
        unusable_cameras=cameras.unusable,
    )


def _joints(
    ref: EpisodeRef, table: LeRobotEpisode, kind: str, arms: Sequence[str]
) -> tuple[Float[np.ndarray, "T D"], tuple[str, ...]]:
    """Joints and gripper of each arm, with one word for each number."""
    parts, names = [], []
    for arm in arms:
        joints, gripper = (table.array(key) for key in _keys(kind, arm))
        width = joints.shape[1] if joints.ndim == 2 else 1
        parts.append(numbers(ref, _keys(kind, arm)[0], joints, width))
        parts.append(numbers(ref, _keys(kind, arm)[1], gripper.reshape(len(gripper), -1)[:, :1], 1))
        names += [f"{arm}joint_{i}" for i in range(1, width + 1)] + [f"{arm}gripper"]
    return np.concatenate(parts, axis=1), tuple(names)


def _convention(names: tuple[str, ...]) -> ActionConvention:
    return ActionConvention(
        name=f"interndata_a1_joint_position_{len(names)}",
        dimensions=names,
        description=(
            "commanded absolute joint positions of each arm in radians, each arm's followed by its gripper's "
            "position as the simulator has it (greater is wider)"
        ),
    )


def _tool(table: LeRobotEpisode, arm: str) -> Float[np.ndarray, "T 3"] | None:
    """The position of an arm's tool in the robot's frame, metres; None if the dataset does not have it."""
    for name in ("tcp", "ee"):
        key = f"states.{arm}{name}_to_robot_pose"
        if table.has(key):
            return numbers(table.ref, key, table.array(key), 7)[:, :3].astype(np.float64)
    return None


def _calibrated(
    view: CameraView, table: LeRobotEpisode, tools: Sequence[Float[np.ndarray, "T 3"]]
) -> tuple[CameraView, str | None]:
    """The view with the calibration columns that pass their checks, and the reasons for those that do not."""
    camera = view.name.removeprefix("images.rgb.")
    intrinsics_key, pose_key = f"{camera}_camera_intrinsics", f"{camera}_camera_to_robot_extrinsics"
    if not table.has(intrinsics_key):
        return view, "no columns"
    columns = table.array(intrinsics_key).astype(np.float64)
    if columns.shape != (view.length, 4) or np.ptp(columns, axis=0).max() > 0:
        return view, f"refused: {intrinsics_key} must hold the same fx, fy, cx, cy in each row"
    intrinsics, source, fault = _intrinsics(columns[0], view, table)
    if fault is not None:
        return view, f"intrinsics and pose refused: {fault}"
    view = dataclasses.replace(view, intrinsics=intrinsics, intrinsics_source=source)
    if not table.has(pose_key):
        return view, None
    poses = _poses(table.array(pose_key).astype(np.float64))
    fault = "it is not x, y, z and a unit quaternion" if poses is None else _pose_fault(view, poses, tools)
    if poses is None or fault is not None:
        return view, f"pose refused: {fault}"
    still = bool(np.ptp(poses, axis=0).max() < STILL_M)
    return (
        dataclasses.replace(
            view,
            world_from_camera=poses[:1] if still else poses,
            pose_source="calibration columns, robot base",
            fixed=still,
        ),
        None,
    )


def _intrinsics(
    column: Float[np.ndarray, " 4"], view: CameraView, table: LeRobotEpisode
) -> tuple[Float[np.ndarray, "3 3"], str, str | None]:
    """Intrinsics from fx, fy, cx, cy, where they come from, and why they are refused.

    They belong to the stored video. If a video was stored smaller than its description says, its intrinsics may still
    be those of the described size.
    """
    fx, fy, cx, cy = column
    intrinsics, source = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), "calibration columns"
    fault = intrinsics_fault(intrinsics, view.size)
    height, width = [*(table.meta.features[view.name].get("shape") or ()), 0, 0][:2]
    if fault is None or (width, height) == view.size or min(width, height) <= 0:
        return intrinsics, source, fault
    scaled = intrinsics * [[view.size[0] / width], [view.size[1] / height], [1]]
    if intrinsics_fault(scaled, view.size) is not None:
        return intrinsics, source, fault
    return scaled, f"{source}, scaled from {width} x {height}", None


def _poses(columns: np.ndarray) -> Float[np.ndarray, "T 4 4"] | None:
    if columns.ndim != 2 or columns.shape[1] != 7 or not np.isfinite(columns).all():
        return None
    if np.abs(np.linalg.norm(columns[:, 3:], axis=1) - 1).max() > 0.01:
        return None
    return np.stack([pose_from_quaternion(row[:3], row[3:]) for row in columns])


def _pose_fault(
    view: CameraView, poses: Float[np.ndarray, "T 4 4"], tools: Sequence[Float[np.ndarray, "T 3"]]
) -> str | None:
    """Why poses cannot belong to this camera, or None; poses that cannot be checked are refused too."""
    if not tools or view.intrinsics is None:
        return "the dataset gives no pose of the tool to check it with"
    if view.name == PRIMARY and any(mounted_on(tool, poses) for tool in tools):
        return "it moves with the hand, so it is a hand camera's"
    faults = [pose_fault(tool, view.intrinsics, poses, view.size) for tool in tools]
    return None if None in faults else faults[0]
