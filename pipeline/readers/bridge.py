"""BridgeData V2, WidowX 250, 5 Hz: RLDS ``bridge_dataset`` 1.0.0 here, LeRobot in ``_bridge_lerobot``, as recorded in
``_bridge_raw``.

Properties of these files that only this module handles:

* ``image_0`` to ``image_3`` were squashed from 640 x 480 to a square. No intrinsics and no poses are known.
* An absent camera is stored as black pictures. ``has_image_*`` in the metadata is always False (a bug of the writer),
  so the pixels are checked.
* A missing instruction is an empty text.
* ``action[t]`` was commanded after ``observation[t]``; its gripper is absolute, 1 = open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.errors import UnreadableSource
from pipeline.formats.discovery import list_forms
from pipeline.formats.lerobot import list_lerobot, read_lerobot
from pipeline.formats.rlds import RldsEpisode, list_rlds, read_rlds
from pipeline.readers import EpisodeTexts
from pipeline.readers._bridge_lerobot import episode_of_lerobot, missing_key
from pipeline.readers._bridge_raw import OBSERVATIONS, list_raw, read_raw, words_of_raw
from pipeline.readers._camera_views import (
    enough_frames,
    find_cameras,
    numbers,
    spoken,
    view_of_pictures,
    with_kinds,
    words_of_tasks,
)
from pipeline.readers._forms import Form, form_of, listers
from pipeline.readers._instructions import instructions_of
from schemas.episode import CameraKind, CameraView, DatasetInfo, Episode, EpisodeRef
from schemas.robot_conventions import BRIDGE_DELTA, BRIDGE_STATE

INFO = DatasetInfo(
    name="bridge",
    version="BridgeData V2",
    licence="CC BY 4.0",
    credit="Walke et al., BridgeData V2: A Dataset for Robot Learning at Scale, 2023",
)
CONVENTION = BRIDGE_DELTA
STATE_NAMES = BRIDGE_STATE
CAMERAS = ("image_0", "image_1", "image_2", "image_3")
PRIMARY = CAMERAS[0]
CAMERA_KIND = CameraKind("RealSense D435 or Logitech C920", 43.0, 640 / 480)
"""What the dataset's paper names; both see about this much of the scene at 640 x 480."""
FPS = 5.0
STATE, ACTION, LANGUAGE = "steps/observation/state", "steps/action", "steps/language_instruction"
NEEDED = (f"steps/observation/{PRIMARY}", STATE, ACTION, LANGUAGE)


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        depth_unit: metres in one unit of the raw form's depth pictures, which do not say; None leaves that depth out.
    """

    depth_unit: float | None = None

    def __post_init__(self) -> None:
        if self.depth_unit is not None and not 0 < self.depth_unit < 1:
            raise ValueError(f"bridge.depth_unit must lie between 0 and 1 metre, found {self.depth_unit}")


def build(config: Config) -> "BridgeReader":
    """The reader."""
    return BridgeReader(config)


class BridgeReader:
    """See ``pipeline.readers.Reader``."""

    def __init__(self, config: Config | None = None):
        self.config = config or Config()

    def list_episodes(self, root: Path, form: str | None = None) -> Iterator[EpisodeRef | UnreadableSource]:
        """Every episode of every RLDS, LeRobot and raw folder below."""
        return list_forms(
            root,
            listers(FORMS),
            "RLDS, LeRobot or raw folder",
            "Bridge's folder bridge_dataset/1.0.0, a LeRobot folder of it or its raw folders",
            form,
        )

    def read(self, ref: EpisodeRef) -> Episode:
        """One trajectory; its pictures are decoded on demand."""
        return with_kinds(form_of(ref, FORMS).read(ref, self.config), CAMERA_KIND)

    def words(self, ref: EpisodeRef) -> EpisodeTexts:
        """See ``pipeline.readers.TellsWords``."""
        return form_of(ref, FORMS).words(ref)


def _read_rlds(ref: EpisodeRef, config: Config) -> Episode:
    record = read_rlds(ref)
    enough_frames(ref, record.length)
    cameras = [name for name in CAMERAS if record.has(f"steps/observation/{name}")]
    usable = find_cameras(ref, {name: partial(_view, ref, name, record) for name in cameras})
    told = instructions_of([record.texts(LANGUAGE)], record.length)
    return Episode(
        ref=ref,
        views=usable.views,
        primary=PRIMARY,
        wrist=None,
        instructions=told.every,
        fps=FPS,
        state=numbers(ref, "state", record.array(STATE), len(STATE_NAMES)),
        state_names=STATE_NAMES,
        actions=numbers(ref, "actions", record.array(ACTION), len(CONVENTION.dimensions)),
        action_mask=np.ones(record.length, bool),
        action_convention=CONVENTION,
        notes=usable.notes | _notes(record),
        unusable_cameras=usable.unusable,
        frame_instructions=told.by_frame,
    )


def _words_of_rlds(ref: EpisodeRef) -> EpisodeTexts:
    return EpisodeTexts(spoken(read_rlds(ref).texts(LANGUAGE)))


def _read_lerobot(ref: EpisodeRef, config: Config) -> Episode:
    return episode_of_lerobot(ref, read_lerobot(ref), CONVENTION, STATE_NAMES, FPS)


def _words_of_lerobot(ref: EpisodeRef) -> EpisodeTexts:
    return words_of_tasks(read_lerobot(ref))


def _read_raw(ref: EpisodeRef, config: Config) -> Episode:
    return read_raw(ref, CONVENTION, STATE_NAMES, FPS, config.depth_unit)


def _view(ref: EpisodeRef, name: str, record: RldsEpisode) -> CameraView | None:
    return view_of_pictures(ref, name, record.images(f"steps/observation/{name}"), fixed=name != "image_3")


def _notes(record: RldsEpisode) -> dict[str, str]:
    path = "episode_metadata/file_path"
    return {"file_path": record.texts(path)[0]} if record.has(path) else {}


FORMS: dict[str, Form[Config]] = {
    "rlds": Form("", partial(list_rlds, INFO.name, needed=NEEDED), _read_rlds, _words_of_rlds),
    "lerobot": Form(
        ".parquet", partial(list_lerobot, INFO.name, is_ours=missing_key), _read_lerobot, _words_of_lerobot
    ),
    "bridge-raw": Form(OBSERVATIONS, partial(list_raw, INFO.name), _read_raw, words_of_raw),
}
"""The forms, by the names that ``--form`` accepts."""
