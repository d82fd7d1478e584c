"""DROID as it was recorded: one folder an episode, ``<lab>/{success,failure}/<date>/<time>``.

* ``trajectory.h5`` holds states, actions and camera poses: ``observation/robot_state/*``, ``action/*``,
  ``observation/camera_extrinsics/<serial>_{left,right}``.
* ``metadata_<uuid>.json`` names episode, task and the serial numbers of the cameras.
* ``recordings/MP4/<serial>.mp4`` is a camera's left eye at 1280 x 720, ``<serial>-stereo.mp4`` both eyes side by side.
  One picture was taken at each step of the robot, but the videos are labelled 60 fps, so pictures are matched by their
  number and not by their time.
* Texts: see ``_droid_texts``.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from pipeline.errors import UnreadableSource
from pipeline.formats.fingerprint import stamps_of
from pipeline.formats.ref_paths import path_of
from pipeline.formats.video import VideoFrames, VideoSpan, count_frames, read_video
from pipeline.readers._camera_views import (
    enough_frames,
    find_cameras,
    numbers,
    shortest_length,
    view_of_video,
)
from pipeline.readers._droid_calibration import SERIAL_OF, Calibration, calibrated, pose_of_entry
from pipeline.readers._droid_texts import UNREADABLE, annotation_files, metadata_of, words_of_raw
from schemas.episode import ActionConvention, BadEpisode, CameraView, Episode, EpisodeRef, StereoPair
from schemas.file_cache import local_file

TRAJECTORY, VIDEOS = "trajectory.h5", "recordings/MP4"
PRIMARY, _, WRIST = SERIAL_OF
STATES = (("cartesian_position", 6), ("gripper_position", 1), ("joint_positions", 7))
ACTIONS = (("cartesian_position", 6), ("gripper_position", 1))
BASELINES_M = {"ZED 2": 0.12, "ZED mini": 0.063}
"""Stereo baseline of the cameras that DROID used, from the maker's data sheet."""
NEAR_BASELINE = 0.15
"""Largest relative difference of a measured baseline from the maker's."""


def list_raw(dataset: str, root: Path, folder: Path) -> Iterator[EpisodeRef | UnreadableSource]:
    """The one episode of a folder that holds ``trajectory.h5``.

    Args:
        dataset: name for the refs.
        root: the dataset's folder, to which sources are relative.
        folder: the episode's folder.
    """
    trajectory = folder / TRAJECTORY
    source = trajectory.relative_to(root).as_posix()
    try:
        described, videos = sorted(folder.glob("metadata_*.json")), _videos(folder)
    except OSError as error:
        yield UnreadableSource(source, "unreadable_folder", f"{source}: {VIDEOS} cannot be opened: {error.strerror}")
        return
    if len(described) != 1 or not videos:
        missing = f"{VIDEOS}/*.mp4" if len(described) == 1 else f"one metadata_<uuid>.json, found {len(described)}"
        yield UnreadableSource(source, "missing_file", f"{source} needs beside it {missing}")
        return
    files = [trajectory, *described, *videos, *annotation_files(folder, root)]
    yield EpisodeRef(dataset, source, "trajectory", str(trajectory), stamps_of(files))


def _videos(folder: Path) -> list[Path]:
    """An episode's videos; OSError if their folder cannot be opened."""
    place = folder / VIDEOS
    names = os.listdir(place) if place.is_dir() else []
    return [place / name for name in sorted(names) if name.endswith(".mp4") and not name.startswith(".")]


def read_raw(
    ref: EpisodeRef,
    root: Path,
    calibration: Calibration | None,
    convention: ActionConvention,
    state_names: tuple[str, ...],
    fps: float,
    other_actions: dict[str, int],
    reduced: int,
) -> Episode:
    """One episode, in the conventions of the RLDS form.

    Args:
        reduced: pictures are made smaller by this whole number.

    Raises:
        BadEpisode: it cannot be used.
    """
    folder = path_of(ref).parent
    metadata, table = metadata_of(ref, folder), _Table(ref)
    state = table.columns("observation/robot_state", STATES)
    actions = table.columns("action", ACTIONS)
    if len(actions) != len(state):
        raise BadEpisode("rows_mismatch", f"{ref.name} has {len(state)} states and {len(actions)} actions")
    enough_frames(ref, len(state))
    recorded = _Recorded(ref, folder, table, metadata, len(state), reduced)
    length, notes = recorded.shortest()
    cameras = find_cameras(
        ref, {name: partial(_view, recorded, name, calibration, state[:length], notes) for name in SERIAL_OF}
    )
    words, note = words_of_raw(ref, root)
    return Episode(
        ref=ref,
        views=cameras.views,
        primary=PRIMARY,
        wrist=WRIST if WRIST in cameras.views else None,
        instructions=words.instructions,
        fps=fps,
        state=state[:length],
        state_names=state_names,
        actions=actions[:length],
        action_mask=np.ones(length, bool),
        action_convention=convention,
        success=words.success,
        notes=notes | cameras.notes | note,
        unusable_cameras=cameras.unusable,
        other_actions={
            name: table.columns("action", ((name, width),))[:length]
            for name, width in other_actions.items()
            if table.has(f"action/{name}")
        },
    )


class _Table:
    """``trajectory.h5``, opened for each read."""

    def __init__(self, ref: EpisodeRef):
        self.ref = ref

    def _look(self, key: str) -> np.ndarray | None:
        try:
            with local_file(path_of(self.ref)) as here, h5py.File(here, "r") as file:
                node = file.get(key)
                return node[()] if isinstance(node, h5py.Dataset) else None
        except UNREADABLE as error:
            said = " ".join(str(error).split())
            raise BadEpisode("unreadable_episode", f"{self.ref.name} cannot be read as HDF5: {said}") from error

    def has(self, key: str) -> bool:
        return self._look(key) is not None

    def columns(self, group: str, parts: tuple[tuple[str, int], ...]) -> Float[np.ndarray, "T D"]:
        """Tables of one group side by side."""
        found = [self._numbers(f"{group}/{name}", width) for name, width in parts]
        if len({len(values) for values in found}) > 1:
            lengths = ", ".join(f"{name} {len(values)}" for (name, _), values in zip(parts, found, strict=True))
            raise BadEpisode("rows_mismatch", f"{self.ref.name}: {group} has different lengths: {lengths}")
        return np.concatenate(found, axis=1)

    def poses(self, serial: str, eye: str, length: int) -> Float[np.ndarray, "T 4 4"] | None:
        """Poses of one eye of a camera in the robot's base, one for each row; None if they are missing or not
        finite.

        Args:
            length: rows of the table.
        """
        values = self._look(f"observation/camera_extrinsics/{serial}_{eye}")
        if values is None or values.shape != (length, 6) or values.dtype.kind != "f" or not np.isfinite(values).all():
            return None
        return np.stack([pose_of_entry(row) for row in values])

    def _numbers(self, key: str, width: int) -> Float[np.ndarray, "T D"]:
        values = self._look(key)
        if values is None:
            raise BadEpisode("missing_field", f"{self.ref.name} has no {key}")
        if values.dtype.kind not in "fiub":
            raise BadEpisode("wrong_dtype", f"{self.ref.name}: {key} must hold numbers, found {values.dtype}")
        return numbers(self.ref, key, values, width)


@dataclass(frozen=True)
class _Recorded:
    """An episode's folder with the content of its files.

    Attributes:
        rows: number of rows of the table; a picture was taken for each.
        reduced: pictures are made smaller by this whole number.
    """

    ref: EpisodeRef
    folder: Path
    table: _Table
    metadata: dict[str, Any]
    rows: int
    reduced: int

    def serial(self, camera: str) -> str:
        return str(self.metadata[SERIAL_OF[camera]])

    def poses(self, camera: str, eye: str, length: int) -> Float[np.ndarray, "T 4 4"] | None:
        """Poses of one eye at the first frames; see ``_Table.poses``."""
        found = self.table.poses(self.serial(camera), eye, self.rows)
        return None if found is None else found[:length]

    def left(self, camera: str, length: int) -> VideoSpan:
        """The left eye: its own file, or half of the stereo file."""
        alone, both = (self.folder / VIDEOS / f"{self.serial(camera)}{end}.mp4" for end in ("", "-stereo"))
        if alone.is_file() or not both.is_file():
            return VideoSpan(alone, 0.0, length, None, False, reduced=self.reduced)
        return VideoSpan(both, 0.0, length, None, False, "left", self.reduced)

    def right(self, camera: str, length: int) -> VideoSpan | None:
        """The right eye, if it was recorded."""
        path = self.folder / VIDEOS / f"{self.serial(camera)}-stereo.mp4"
        return VideoSpan(path, 0.0, length, None, False, "right", self.reduced) if path.is_file() else None

    def shortest(self) -> tuple[int, dict[str, str]]:
        """How many rows have pictures of every camera, as in DROID's own loader, and notes on the cut."""
        counts = {}
        for camera in SERIAL_OF:
            with suppress(BadEpisode):  # reported when the camera is opened
                path = self.left(camera, self.rows).path
                counts[path.name] = count_frames(self.ref.name, path)
        length = shortest_length(self.rows, counts.values())
        if length == self.rows:
            return length, {}
        short = ", ".join(name for name, count in counts.items() if count == length)
        return length, {"cut": f"to {length} of {self.rows} steps: {short} has no more pictures"}


def _view(
    recorded: _Recorded,
    name: str,
    calibration: Calibration | None,
    state: Float[np.ndarray, "T S"],
    notes: dict[str, str],
) -> CameraView | None:
    """A camera with its calibration; None if it is black.

    Args:
        notes: a note on a missing calibration is added here.
    """
    ref, length = recorded.ref, len(state)
    span = recorded.left(name, length)
    if not span.path.is_file():
        raise BadEpisode("missing_video", f"{ref.name}: there is no {VIDEOS}/{span.path.name} for {name}")
    if (count := count_frames(f"{ref.name}: {name}", span.path)) < length:
        said = f"{span.path.name} of {name} ends after {count} of the episode's {length} frames"
        raise BadEpisode("video_too_short", f"{ref.name}: {said}")
    view = view_of_video(ref, name, span, fixed=name != WRIST)
    if view is None:
        return None
    if calibration is not None:
        left = recorded.poses(name, "left", length)
        uuid = str(recorded.metadata.get("uuid", ""))
        find = partial(calibration.camera_of, uuid, recorded.serial(name), view.size)
        view, said = calibrated(view, find, state[:, :3], _still(left) if view.fixed else left)
        notes |= {f"calibration of {name}": said} if said else {}
    view, said = _with_right_eye(recorded, view)
    notes |= {f"stereo of {name}": said} if said else {}
    return view


def _still(poses: Float[np.ndarray, "T 4 4"] | None) -> Float[np.ndarray, "1 4 4"] | None:
    """The single pose of a fixed camera; None if the recording says that it moved."""
    return poses[:1] if poses is not None and np.abs(poses - poses[:1]).max() < 1e-6 else None


def _with_right_eye(recorded: _Recorded, view: CameraView) -> tuple[CameraView, str | None]:
    """The view with its right eye, if it was recorded and the recording's calibration shows which camera model it
    is.
    """
    span = recorded.right(view.name, view.length)
    if span is None:
        return view, None
    left, right = (recorded.poses(view.name, eye, view.length) for eye in ("left", "right"))
    if left is None or right is None:
        return view, "left out: the recording does not say how far apart the eyes are"
    apart = float(np.median(np.linalg.norm(left[:, :3, 3] - right[:, :3, 3], axis=1)))
    baseline = next((b for b in BASELINES_M.values() if abs(apart - b) <= NEAR_BASELINE * b), None)
    if baseline is None:
        known = ", ".join(f"{name} {b:g} m" for name, b in BASELINES_M.items())
        return view, f"left out: the recording says that the eyes are {apart:.3f} m apart, which is neither of {known}"
    name = f"{recorded.ref.name}: {view.name}, right eye"
    try:
        count = count_frames(name, span.path)
    except BadEpisode as error:
        return view, f"left out: {error}"
    if count < view.length:
        return view, f"left out: {span.path.name} ends after {count} of the episode's {view.length} frames"
    return replace(
        view, stereo=StereoPair(partial(read_video, name, span), baseline, VideoFrames(name, span).some)
    ), None
