"""BridgeData V2 as LeRobot (``bridge_orig_lerobot`` v2.0 and its successors): four cameras, state padded to 8."""

from functools import partial

import numpy as np
from jaxtyping import Float

from pipeline.formats.lerobot import LeRobotEpisode
from pipeline.formats.lerobot_meta import LeRobotMeta
from pipeline.readers._camera_views import enough_frames, find_cameras, numbers, view_of_lerobot
from pipeline.readers._instructions import instructions_of
from schemas.episode import ActionConvention, CameraView, Episode, EpisodeRef

CAMERAS = tuple(f"observation.images.image_{number}" for number in range(4))
PRIMARY = CAMERAS[0]
STATE, ACTION = "observation.state", "action"
PADDING = 6
"""Column of the padded state that is unused."""


def missing_key(meta: LeRobotMeta) -> str | None:
    """What is missing if this is not Bridge."""
    missing = [key for key in (PRIMARY, STATE, ACTION) if key not in meta.features]
    return ", ".join(missing) or None


def episode_of_lerobot(
    ref: EpisodeRef, table: LeRobotEpisode, convention: ActionConvention, state_names: tuple[str, ...], fps: float
) -> Episode:
    """The table as an episode, in the conventions of the RLDS form.

    Raises:
        BadEpisode: it cannot be used.
    """
    enough_frames(ref, table.length)
    there = [key for key in CAMERAS if key in table.meta.features]
    cameras = find_cameras(ref, {key: partial(_view, table, key) for key in there})
    told = instructions_of([table.tasks()], table.length)
    return Episode(
        ref=ref,
        views=cameras.views,
        primary=PRIMARY,
        wrist=None,
        instructions=told.every,
        fps=fps,
        state=_state(ref, table, len(state_names)),
        state_names=state_names,
        actions=numbers(ref, "actions", table.array(ACTION), len(convention.dimensions)),
        action_mask=np.ones(table.length, bool),
        action_convention=convention,
        notes=cameras.notes,
        frame_instructions=told.by_frame,
        unusable_cameras=cameras.unusable,
    )


def _view(table: LeRobotEpisode, key: str) -> CameraView | None:
    """A camera; None if its video is black or its column says that the camera was absent."""
    available = f"{key}_available"
    if table.has(available) and not table.array(available).all():
        return None
    return view_of_lerobot(table, key, fixed=not key.endswith("3"))


def _state(ref: EpisodeRef, table: LeRobotEpisode, width: int) -> Float[np.ndarray, "T S"]:
    state = table.array(STATE)
    if state.ndim == 2 and state.shape[1] == width + 1:
        state = np.delete(state, PADDING, axis=1)
    return numbers(ref, "state", state, width)
