"""BridgeData V2 as it was recorded: one folder a trajectory, ``<set>/<env>/<task>/NN/<date>/raw/traj_group*/traj*``.

* ``images0`` to ``imagesN`` hold ``im_<t>.jpg``, 640 x 480, in the order of their numbers. ``<date>/config.json`` says
  which cameras are fixed and which one is on the wrist. If it is missing, the first is taken as fixed and the fourth as
  the wrist camera.
* ``obs_dict.pkl`` holds ``full_state`` [T, 7], ``policy_out.pkl`` the T - 1 actions. Pickles can run code, so
  they are read by ``pipeline.formats.safe_pickle``. ``agent_data.pkl`` holds a robot's messages and is not opened.
* ``lang.txt`` has a line for each instruction. Its lines of ``confidence`` are not instructions.
* Before 23 July 2021 pictures came one step late: picture and state t + 1 belong to action t.
* ``depth_images0`` (some trajectories) has no unit. It is used only if ``--dataset-options depth_unit=METRES`` gives
  one.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pipeline.errors import UnreadableSource
from pipeline.formats.fingerprint import stamps_of
from pipeline.formats.images import PictureFiles
from pipeline.formats.ref_paths import path_of
from pipeline.formats.safe_pickle import DamagedPickle, HostilePickle, read_pickle
from pipeline.readers import EpisodeTexts
from pipeline.readers._camera_views import (
    enough_frames,
    find_cameras,
    numbers,
    shortest_length,
    spoken,
    view_of_pictures,
)
from schemas.episode import ActionConvention, BadEpisode, CameraView, Episode, EpisodeRef, RecordedDepth

OBSERVATIONS, POLICY, LANGUAGE, CONFIG = "obs_dict.pkl", "policy_out.pkl", "lang.txt", "config.json"
PRIMARY, DEPTH = "images0", "depth_images0"
DATE = "%Y-%m-%d_%H-%M-%S"
LATE_UNTIL = datetime(2021, 7, 23)
FIXED_TOPICS = ("/D435/color/image_raw", "/cam0/image_raw", "/camera0/color/image_raw")
WRIST_TOPIC = "/wrist/image_raw"
USUAL_TOPICS = (FIXED_TOPICS[0], "/blue/image_raw", "/yellow/image_raw", WRIST_TOPIC)


def list_raw(dataset: str, root: Path, folder: Path) -> Iterator[EpisodeRef | UnreadableSource]:
    """The one trajectory of a folder that holds ``obs_dict.pkl``.

    Args:
        dataset: name for the refs.
        root: the dataset's folder, to which sources are relative.
        folder: the trajectory's folder.
    """
    source = (folder / OBSERVATIONS).relative_to(root).as_posix()
    if not (folder / POLICY).is_file():
        yield UnreadableSource(source, "missing_file", f"{source} has no {POLICY} beside it")
        return
    try:
        beside = (OBSERVATIONS, POLICY, LANGUAGE, f"../../../{CONFIG}", *numbered_names(folder, "images"), DEPTH)
        stamps = stamps_of(folder / name for name in beside if (folder / name).exists())
    except OSError as error:
        yield UnreadableSource(source, "unreadable_file", f"{source}: what lies beside it cannot be read: {error}")
        return
    yield EpisodeRef(dataset, source, "trajectory", str(folder / OBSERVATIONS), stamps)


def read_raw(
    ref: EpisodeRef,
    convention: ActionConvention,
    state_names: tuple[str, ...],
    fps: float,
    depth_unit: float | None,
) -> Episode:
    """One trajectory, in the conventions of the RLDS form.

    Args:
        depth_unit: metres in one unit of the depth pictures, if known.

    Raises:
        BadEpisode: it cannot be used.
    """
    folder = path_of(ref).parent
    state, actions = _numbers(ref, folder, len(state_names), len(convention.dimensions))
    late = _recorded_late(folder)
    first = int(bool(late))
    state, actions = state[first:], actions[: len(actions) - first]
    enough_frames(ref, len(state))
    topics, cameras = _topics(folder), _numbered(ref, folder, "images")
    primary = next((name for name in cameras if topics.get(name) in FIXED_TOPICS), PRIMARY)
    recorded = _Recorded(ref, folder, first, len(state))
    length = recorded.shortest(cameras)
    makers = {name: partial(_camera, recorded, name, length, topics.get(name) in FIXED_TOPICS) for name in cameras}
    usable = find_cameras(ref, dict(sorted(makers.items(), key=lambda item: item[0] != primary)))
    views = {name: usable.views[name] for name in cameras if name in usable.views}
    notes = {} if late is not None else {"date": "unknown: taken for later than 2021-07-23"}
    notes |= usable.notes
    if length < len(state):
        notes |= {"cut": f"to {length} of {len(state)} states, for as many there are pictures"}
    notes |= _join_depth(recorded, views, depth_unit)
    mask = np.arange(len(state)) < len(actions)
    actions = np.concatenate([actions, np.zeros((1, actions.shape[1]), np.float32)])
    return Episode(
        ref=ref,
        views=views,
        primary=primary,
        wrist=next((name for name in views if topics.get(name) == WRIST_TOPIC), None),
        instructions=words_of_raw(ref).instructions,
        fps=fps,
        state=state[:length],
        state_names=state_names,
        actions=actions[:length],
        action_mask=mask[:length],
        action_convention=convention,
        notes=notes,
        source_frames=np.arange(first, first + length) if first else None,
        unusable_cameras=usable.unusable,
    )


def words_of_raw(ref: EpisodeRef) -> EpisodeTexts:
    """The instructions in ``lang.txt``."""
    return EpisodeTexts(spoken(_lines(path_of(ref).parent / LANGUAGE)))


def _numbers(
    ref: EpisodeRef, folder: Path, state_width: int, action_width: int
) -> tuple[Float[np.ndarray, "T S"], Float[np.ndarray, "N A"]]:
    """States, and one action fewer."""
    state = _values(ref, "full_state", _pickled(ref, folder / OBSERVATIONS), state_width)
    actions = _actions(ref, _pickled(ref, folder / POLICY), action_width)
    if len(actions) != len(state) - 1:
        raise BadEpisode(
            "rows_mismatch",
            f"{ref.name} has {len(state)} states, which need {len(state) - 1} actions; {len(actions)} are there",
        )
    return state, actions


def _pickled(ref: EpisodeRef, path: Path) -> Any:
    try:
        return read_pickle(path)
    except HostilePickle as error:
        raise BadEpisode(
            "hostile_pickle", f"{ref.name}: {path.name} is refused: {error}; nothing of it was run"
        ) from error
    except DamagedPickle as error:
        raise BadEpisode("bad_pickle", f"{ref.name}: {path.name} cannot be read: {error}") from error
    except OSError as error:
        raise BadEpisode("unreadable_episode", f"{ref.name}: {path.name} cannot be read: {error.strerror}") from error


def _values(ref: EpisodeRef, key: str, pickled: Any, width: int) -> Float[np.ndarray, "T {width}"]:
    if not isinstance(pickled, dict) or key not in pickled:
        raise BadEpisode("missing_field", f"{ref.name}: {OBSERVATIONS} has no {key}")
    return _table(ref, "state", pickled[key], width)


def _actions(ref: EpisodeRef, pickled: Any, width: int) -> Float[np.ndarray, "T {width}"]:
    """Actions from a list of actions, or from a list of policy outputs that contain the action."""
    rows = pickled if isinstance(pickled, (list, np.ndarray)) else []
    rows = [row.get("actions") if isinstance(row, dict) else row for row in rows]
    if any(row is None for row in rows):
        raise BadEpisode("missing_field", f"{ref.name}: {POLICY} has no actions in each step")
    return _table(ref, "actions", rows if len(rows) else np.zeros((0, width)), width)


def _table(ref: EpisodeRef, name: str, rows: Any, width: int) -> Float[np.ndarray, "T {width}"]:
    try:
        array = np.asarray(rows)
        if array.dtype.kind not in "fiub":
            raise ValueError
    except ValueError as error:
        raise BadEpisode("wrong_shape", f"{ref.name}: {name} must be rows of {width} numbers") from error
    return numbers(ref, name, array, width)


def _recorded_late(folder: Path) -> bool | None:
    """Whether pictures came a step late, by the date in the path; None where there is no date."""
    try:
        return datetime.strptime(folder.parents[2].name, DATE) < LATE_UNTIL
    except (ValueError, IndexError):
        return None


def _topics(folder: Path) -> dict[str, str]:
    """The ROS topic that each folder of pictures was recorded from."""
    try:
        named = json.loads((folder.parents[2] / CONFIG).read_bytes())["agent"]["env"][1]["camera_topics"]
        topics = [str(topic["name"] if isinstance(topic, dict) else topic) for topic in named]
    except (OSError, ValueError, LookupError, TypeError):
        topics = list(USUAL_TOPICS)
    return {f"images{number}": topic for number, topic in enumerate(topics)}


@dataclass(frozen=True)
class _Recorded:
    """A trajectory's folder.

    Attributes:
        first: the first frame that belongs to a state; the frame before it was taken too early.
        states: how many states there are.
    """

    ref: EpisodeRef
    folder: Path
    first: int
    states: int

    def shortest(self, cameras: list[str]) -> int:
        """The number of states with a picture of every camera; only cameras that lack a few at the end are counted."""
        counts = []
        for name in cameras:
            with suppress(BadEpisode):  # reported when the camera is opened
                found = _numbered(self.ref, self.folder / name, "im_", ".jpg")
                if found == [f"im_{number}.jpg" for number in range(len(found))]:
                    counts.append(len(found) - self.first)
        return shortest_length(self.states, counts)

    def pictures(self, name: str, suffix: str, length: int) -> list[Path]:
        """``im_<t>`` of the first ``length`` states.

        Raises:
            BadEpisode: some are missing, or there are more pictures than states.
        """
        folder = self.folder / name
        names = _numbered(self.ref, folder, "im_", suffix)
        expected = [f"im_{number}{suffix}" for number in range(self.first + length)]
        most = self.first + self.states
        if names[: len(expected)] != expected or len(names) > most:
            absent = sorted(set(expected) - set(names), key=expected.index)
            which = f", {absent[0]} is missing" if absent else ""
            said = f"{name} has {len(names)} pictures for {most} states{which}"
            raise BadEpisode("rows_mismatch", f"{self.ref.name}: {said}")
        return [folder / found for found in expected[self.first :]]


def _camera(recorded: _Recorded, name: str, length: int, fixed: bool) -> CameraView | None:
    """A camera, all of whose pictures must exist; None if it is black."""
    files = PictureFiles(f"{recorded.ref.name}: {name}", recorded.pictures(name, ".jpg", length))
    return view_of_pictures(recorded.ref, name, files, fixed=fixed)


def _numbered(ref: EpisodeRef, folder: Path, stem: str, suffix: str = "") -> list[str]:
    """Names of the form stem, number, suffix in a folder, in the order of their numbers.

    Raises:
        BadEpisode: the folder cannot be opened.
    """
    try:
        return numbered_names(folder, stem, suffix)
    except OSError as error:
        said = f"{ref.name}: {folder.name} cannot be opened: {error.strerror}"
        raise BadEpisode("unreadable_episode", said) from error


def numbered_names(folder: Path, stem: str, suffix: str = "") -> list[str]:
    """See ``_numbered``; OSError where the folder cannot be opened."""
    pattern = re.compile(rf"{re.escape(stem)}(\d{{1,9}}){re.escape(suffix)}")
    found = [(int(match[1]), name) for name in os.listdir(folder) if (match := pattern.fullmatch(name))]
    return [name for _, name in sorted(found)]


def _lines(path: Path) -> list[str]:
    """The instructions: every line except those with the annotator's confidence."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if "confidence" not in line.lower()]


def _join_depth(recorded: _Recorded, views: dict[str, CameraView], unit: float | None) -> dict[str, str]:
    """Add the depth pictures to the first camera; returns notes if they cannot be used."""
    if not (recorded.folder / DEPTH).is_dir() or PRIMARY not in views:
        return {}
    if unit is None:
        return {
            "depth": "left out: its unit is not recorded; --dataset-options depth_unit=METRES says what one unit is"
        }
    view = views[PRIMARY]
    try:
        paths = recorded.pictures(DEPTH, ".png", view.length)
    except BadEpisode as error:
        return {"depth": f"left out: {error.message.removeprefix(f'{recorded.ref.name}: ')}"}
    files = PictureFiles(f"{recorded.ref.name}: {DEPTH}", paths)
    read = partial(_read_depth, files, view.size, unit)
    views[PRIMARY] = dataclasses.replace(
        view, depth=RecordedDepth(read, "m", f"16-bit pictures, {unit:g} m a unit, as configured", read)
    )
    return {}


def _read_depth(
    files: PictureFiles, size: tuple[int, int], unit: float, wanted: Int[np.ndarray, " N"] | None = None
) -> Float[np.ndarray, "N H W"]:
    import cv2

    numbers = range(len(files)) if wanted is None else wanted.tolist()
    depth = np.empty((len(numbers), size[1], size[0]), np.float32)
    for place, number in enumerate(numbers):
        data = files[number]
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
        if image is None or image.dtype != np.uint16 or image.shape != depth.shape[1:]:
            found = "nothing" if image is None else f"{image.dtype} of {image.shape[1]} x {image.shape[0]}"
            raise BadEpisode(
                "bad_depth",
                f"{files.name}: {files.paths[number].name} must be 16-bit grey of {size[0]} x {size[1]}, found {found}",
            )
        depth[place] = image * np.float32(unit)
    return depth
