"""DROID, Franka with a Robotiq gripper, 15 Hz: RLDS ``droid`` 1.0.0, 1.0.1 and ``droid_100`` here, LeRobot in
``_droid_lerobot``, as recorded in ``_droid_raw``.

* Two exterior cameras and one on the wrist, 180 x 320, the left eye of each stereo pair. The exterior ones are fixed.
* Three instructions per episode, many of them blank.
* The outcome is part of the path of the recording: ``<lab>/success/...`` or ``<lab>/failure/...``.
* ``action`` is the *absolute* pose that was commanded, with the gripper (1 = closed).
* Camera poses in release 1.0.1 are noisy and come without intrinsics, so they cannot be checked and are not used.
  Calibration files (see ``_droid_calibration``) in the dataset's folder or its folder ``calibration`` are
  used; a pose in which the tool is not in view is refused.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.errors import UnreadableSource
from pipeline.formats.discovery import list_forms
from pipeline.formats.lerobot import list_lerobot, read_lerobot
from pipeline.formats.ref_paths import root_of
from pipeline.formats.rlds import RldsEpisode, list_rlds, read_rlds
from pipeline.readers import EpisodeTexts
from pipeline.readers._camera_views import (
    enough_frames,
    find_cameras,
    numbers,
    view_of_pictures,
    with_kinds,
)
from pipeline.readers._droid_calibration import (
    BadCalibration,
    Calibration,
    calibrated,
    calibration_fingerprint,
    read_calibration,
)
from pipeline.readers._droid_lerobot import episode_of_lerobot, missing_key, words_of_lerobot
from pipeline.readers._droid_raw import TRAJECTORY, list_raw, read_raw
from pipeline.readers._droid_texts import bad_annotations, words_of_raw
from pipeline.readers._forms import Form, form_of, listers
from pipeline.readers._instructions import instructions_of
from schemas.episode import ActionConvention, CameraKind, CameraView, DatasetInfo, Episode, EpisodeRef, RobotJoints

INFO = DatasetInfo(
    name="droid",
    version="1.0.0 / 1.0.1",
    licence="CC BY 4.0",
    credit="Khazatsky et al., DROID: A Large-Scale In-The-Wild Robot Manipulation Dataset, 2024",
)
CONVENTION = ActionConvention(
    name="droid_cartesian_position",
    dimensions=("x", "y", "z", "rx", "ry", "rz", "gripper"),
    description=(
        "commanded absolute pose of the hand in the robot's base: metres, Euler angles xyz in radians; gripper "
        "position, 0 open, 1 closed"
    ),
)
STATE_NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper", *(f"joint_{i}" for i in range(1, 8)))
OTHER_ACTIONS = {"cartesian_velocity": 6, "gripper_position": 1}
"""Forms of the action besides the absolute pose, and their widths; ``pipeline.actions.droid`` uses them."""
PRIMARY, WRIST = "exterior_image_1_left", "wrist_image_left"
CAMERAS = (PRIMARY, "exterior_image_2_left", WRIST)
FPS = 15.0
LANGUAGES = tuple(f"steps/language_instruction{suffix}" for suffix in ("", "_2", "_3"))
NEEDED = (f"steps/observation/{PRIMARY}", "steps/observation/cartesian_position", "steps/action")

CAMERA_KINDS = CameraKind("ZED 2", 69.0, 1280 / 720), CameraKind("ZED Mini", 54.0, 1280 / 720)
"""Exterior and wrist, at 1280 x 720; for episodes without calibration files."""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        reduced: the raw form's 1280 x 720 pictures are made smaller by this whole number; 4 is what the RLDS form has.
    """

    reduced: int = 4

    def __post_init__(self) -> None:
        if self.reduced not in (1, 2, 4, 8):
            raise ValueError(f"droid.reduced must be 1, 2, 4 or 8, found {self.reduced}")


def build(config: Config) -> "DroidReader":
    """The reader."""
    return DroidReader(config)


class DroidReader:
    """See ``pipeline.readers.Reader``."""

    def __init__(self, config: Config | None = None):
        self.config = config or Config()

    def list_episodes(self, root: Path, form: str | None = None) -> Iterator[EpisodeRef | UnreadableSource]:
        """Every episode of every RLDS, LeRobot and raw folder below."""
        extra = calibration_fingerprint(root) if root.is_dir() else ""
        try:
            read_calibration(root, extra)
        except BadCalibration as error:
            yield UnreadableSource("calibration", "bad_calibration", str(error))
            extra = "-none"
        yield from bad_annotations(root)
        for listed in list_forms(
            root,
            listers(FORMS),
            "RLDS, LeRobot or raw folder",
            "the folder droid/1.0.1 or droid_100/1.0.0, a LeRobot folder of DROID, or its labs' raw folders",
            form,
        ):
            if isinstance(listed, EpisodeRef):  # the samples depend on the calibration too
                listed = dataclasses.replace(listed, fingerprint=listed.fingerprint + extra)
            yield listed

    def read(self, ref: EpisodeRef) -> Episode:
        """One trajectory; its pictures are decoded on demand."""
        return _with_joints(with_kinds(form_of(ref, FORMS).read(ref, self.config), *CAMERA_KINDS))

    def words(self, ref: EpisodeRef) -> EpisodeTexts:
        """See ``pipeline.readers.TellsWords``."""
        return form_of(ref, FORMS).words(ref)


def _read_rlds(ref: EpisodeRef, config: Config) -> Episode:
    record, calibration = read_rlds(ref), _calibration(ref)
    enough_frames(ref, record.length)
    cameras = find_cameras(ref, {name: partial(_view, ref, name, record) for name in CAMERAS})
    views = cameras.views
    state = _state(ref, record)
    path, told = _path(record), instructions_of(_texts(record), record.length)
    notes = cameras.notes | ({"file_path": path} if path else {})
    if calibration is not None:
        for name, view in views.items():
            find = partial(calibration.camera, _recording(path), name, view.size)
            views[name], said = calibrated(view, find, state[:, :3])
            notes |= {f"calibration of {name}": said} if said else {}
    return Episode(
        ref=ref,
        views=views,
        primary=PRIMARY,
        wrist=WRIST if WRIST in views else None,
        instructions=told.every,
        fps=FPS,
        state=state,
        state_names=STATE_NAMES,
        actions=numbers(ref, "actions", record.array("steps/action"), len(CONVENTION.dimensions)),
        action_mask=np.ones(record.length, bool),
        action_convention=CONVENTION,
        success=_success(path),
        notes=notes,
        other_actions={
            name: numbers(ref, key, record.array(key), width)
            for name, width in OTHER_ACTIONS.items()
            if record.has(key := f"steps/action_dict/{name}")
        },
        frame_instructions=told.by_frame,
        unusable_cameras=cameras.unusable,
    )


def _with_joints(episode: Episode) -> Episode:
    """The episode with its arm's joints, which its state holds; calibrated cameras have their poses in its base."""
    columns = [STATE_NAMES.index(f"joint_{number}") for number in range(1, 8)]
    names = tuple(f"joint{number}" for number in range(1, 8))
    return dataclasses.replace(episode, joints=RobotJoints(names, episode.state[:, columns], np.eye(4)))


def _view(ref: EpisodeRef, name: str, record: RldsEpisode) -> CameraView | None:
    return view_of_pictures(ref, name, record.images(f"steps/observation/{name}"), fixed=name != WRIST)


def _state(ref: EpisodeRef, record: RldsEpisode) -> Float[np.ndarray, "T S"]:
    parts = (("cartesian_position", 6), ("gripper_position", 1), ("joint_position", 7))
    return np.concatenate(
        [numbers(ref, name, record.array(f"steps/observation/{name}"), width) for name, width in parts], axis=1
    )


def _calibration(ref: EpisodeRef) -> Calibration | None:
    root = root_of(ref)
    try:
        return read_calibration(root, calibration_fingerprint(root))
    except BadCalibration:  # reported when the folder was listed
        return None


def _words_of_rlds(ref: EpisodeRef) -> EpisodeTexts:
    record = read_rlds(ref)
    return EpisodeTexts(instructions_of(_texts(record), record.length).every, _success(_path(record)))


def _texts(record: RldsEpisode) -> list[list[str]]:
    return [record.texts(key) for key in LANGUAGES if record.has(key)]


def _path(record: RldsEpisode) -> str:
    return _text(record, "episode_metadata/file_path") or _text(record, "episode_metadata/recording_folderpath")


def _recording(path: str) -> str:
    """``lab/outcome/date/time`` from a recording's path."""
    parts = [part for part in path.split("/") if part]
    for place, part in enumerate(parts):
        if part in ("success", "failure") and 0 < place < len(parts) - 2:
            return "/".join(parts[place - 1 : place + 3])
    return ""


def _success(path: str) -> bool | None:
    return True if "/success/" in path else False if "/failure/" in path else None


def _text(record: RldsEpisode, key: str) -> str:
    return record.texts(key)[0] if record.has(key) else ""


def _read_lerobot(ref: EpisodeRef, config: Config) -> Episode:
    return episode_of_lerobot(ref, read_lerobot(ref), CONVENTION, STATE_NAMES, FPS, OTHER_ACTIONS)


def _words_of_lerobot(ref: EpisodeRef) -> EpisodeTexts:
    return words_of_lerobot(read_lerobot(ref))


def _read_raw(ref: EpisodeRef, config: Config) -> Episode:
    root, calibration = root_of(ref), _calibration(ref)
    return read_raw(ref, root, calibration, CONVENTION, STATE_NAMES, FPS, OTHER_ACTIONS, config.reduced)


def _words_of_raw(ref: EpisodeRef) -> EpisodeTexts:
    return words_of_raw(ref, root_of(ref))[0]


FORMS: dict[str, Form[Config]] = {
    "rlds": Form("", partial(list_rlds, INFO.name, needed=NEEDED), _read_rlds, _words_of_rlds),
    "lerobot": Form(
        ".parquet", partial(list_lerobot, INFO.name, is_ours=missing_key), _read_lerobot, _words_of_lerobot
    ),
    "droid-raw": Form(TRAJECTORY, partial(list_raw, INFO.name), _read_raw, _words_of_raw),
}
"""The forms, by the names that ``--form`` accepts."""
