"""LIBERO as RLDS (``libero_*_no_noops`` 1.0.0): demonstrations replayed at 256 x 256 with idle steps left out.

* Images were rotated by 180 degrees instead of flipped vertically, so they are *mirrored*. This is undone before any
  camera is applied; otherwise the horizontal component of every flow would have the wrong sign.
* Here ``observation[t]`` was taken before ``action[t]``, unlike in the HDF5 files.
"""

from functools import partial

import numpy as np

from pipeline.formats.rlds import RldsEpisode
from pipeline.readers import EpisodeTexts
from pipeline.readers._camera_views import (
    enough_frames,
    find_cameras,
    numbers,
    spoken,
    view_of_pictures,
    with_fov,
)
from pipeline.readers._instructions import instructions_of
from pipeline.readers._libero_hdf5 import CONVENTION, FOV_Y, STATE_NAMES
from schemas.episode import BadEpisode, CameraView, Episode, EpisodeRef

PRIMARY, WRIST = "image", "wrist_image"
FOV_OF = {PRIMARY: FOV_Y["agentview"], WRIST: FOV_Y["robot0_eye_in_hand"]}
FPS = 20.0
STATE, ACTION, LANGUAGE = "steps/observation/state", "steps/action", "steps/language_instruction"
NEEDED = (f"steps/observation/{PRIMARY}", STATE, ACTION, LANGUAGE)


def episode_of_record(ref: EpisodeRef, record: RldsEpisode) -> Episode:
    """The record as an episode.

    Raises:
        BadEpisode: it cannot be used.
    """
    enough_frames(ref, record.length)
    words, told = words_of_record(record), instructions_of([record.texts(LANGUAGE)], record.length)
    cameras = find_cameras(ref, {name: partial(_view, ref, name, record) for name in FOV_OF})
    return Episode(
        ref=ref,
        views=cameras.views,
        primary=PRIMARY,
        wrist=WRIST if WRIST in cameras.views else None,
        instructions=told.every,
        fps=FPS,
        state=numbers(ref, "state", record.array(STATE), len(STATE_NAMES)),
        state_names=STATE_NAMES,
        actions=numbers(ref, "actions", record.array(ACTION), len(CONVENTION.dimensions)),
        action_mask=np.ones(record.length, bool),
        action_convention=CONVENTION,
        success=words.success,
        notes=cameras.notes | _notes(record),
        frame_instructions=told.by_frame,
        unusable_cameras=cameras.unusable,
    )


def _view(ref: EpisodeRef, name: str, record: RldsEpisode) -> CameraView | None:
    images = record.images(f"steps/observation/{name}")
    view = view_of_pictures(ref, name, images, fixed=name == PRIMARY, orientation="mirrored")
    if view is None:
        return None
    if view.size[0] != view.size[1]:
        raise BadEpisode("wrong_shape", f"{ref.name}: {name} must be square, found {view.size[0]} x {view.size[1]}")
    return with_fov(view, FOV_OF[name])


def words_of_record(record: RldsEpisode) -> EpisodeTexts:
    """The texts of the record, without its pictures."""
    success = bool(record.array("steps/reward")[-1] > 0) if record.has("steps/reward") else None
    return EpisodeTexts(spoken(record.texts(LANGUAGE)), success)


def _notes(record: RldsEpisode) -> dict[str, str]:
    path = "episode_metadata/file_path"
    return {"file_path": record.texts(path)[0]} if record.has(path) else {}
