"""DROID as LeRobot v2.1 and v3.0: the RLDS fields as columns, the outcome as a column, no path of the recording.

Without that path calibration files cannot be matched. The noisy poses in ``camera_extrinsics.*`` come without
intrinsics and cannot be checked, so no camera gets a calibration. Older conversions (v2.0) swapped the exterior cameras
at random; those are refused.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
from jaxtyping import Float

from pipeline.formats.lerobot import LeRobotEpisode
from pipeline.formats.lerobot_meta import LeRobotMeta
from pipeline.readers import EpisodeTexts
from pipeline.readers._camera_views import enough_frames, find_cameras, numbers, view_of_lerobot
from pipeline.readers._instructions import instructions_of
from schemas.episode import ActionConvention, Episode, EpisodeRef

EXTERIOR = tuple(f"observation.images.exterior_{number}_left" for number in (1, 2))
PRIMARY, WRIST = EXTERIOR[0], "observation.images.wrist_left"
STATES = (
    ("observation.state.cartesian_position", 6),
    ("observation.state.gripper_position", 1),
    ("observation.state.joint_position", 7),
)
ACTION, OUTCOME = "action.original", "is_episode_successful"
LANGUAGES = ("language_instruction", "language_instruction_2", "language_instruction_3")


def missing_key(meta: LeRobotMeta) -> str | None:
    """What is missing if this is not DROID, or is of a version that is refused."""
    missing = [key for key in (PRIMARY, WRIST, ACTION, *(name for name, _ in STATES)) if key not in meta.features]
    if not missing and meta.version == "v2.0":
        return "version v2.1 or v3.0 (v2.0 swapped the exterior cameras)"
    return ", ".join(missing) or None


def episode_of_lerobot(
    ref: EpisodeRef,
    table: LeRobotEpisode,
    convention: ActionConvention,
    state_names: tuple[str, ...],
    fps: float,
    other_actions: Mapping[str, int],
) -> Episode:
    """The table as an episode, in the conventions of the RLDS form.

    Raises:
        BadEpisode: it cannot be used.
    """
    enough_frames(ref, table.length)
    there = [key for key in (*EXTERIOR, WRIST) if key in table.meta.features]
    cameras = find_cameras(ref, {key: partial(view_of_lerobot, table, key, fixed=key != WRIST) for key in there})
    words, told = words_of_lerobot(table), instructions_of(_texts(table), table.length)
    return Episode(
        ref=ref,
        views=cameras.views,
        primary=PRIMARY,
        wrist=WRIST if WRIST in cameras.views else None,
        instructions=told.every,
        fps=fps,
        state=_state(ref, table),
        state_names=state_names,
        actions=numbers(ref, "actions", table.array(ACTION), len(convention.dimensions)),
        action_mask=np.ones(table.length, bool),
        action_convention=convention,
        success=words.success,
        notes=cameras.notes,
        other_actions={
            name: numbers(ref, key, table.array(key), width)
            for name, width in other_actions.items()
            if table.has(key := f"action.{name}")
        },
        frame_instructions=told.by_frame,
        unusable_cameras=cameras.unusable,
    )


def words_of_lerobot(table: LeRobotEpisode) -> EpisodeTexts:
    """The texts and the outcome in the table, without its pictures."""
    success = bool(table.array(OUTCOME).reshape(-1)[0]) if table.has(OUTCOME) else None
    return EpisodeTexts(instructions_of(_texts(table), table.length).every, success)


def _texts(table: LeRobotEpisode) -> list[list[str]]:
    return [*(table.texts(key) for key in LANGUAGES if table.has(key)), table.tasks()]


def _state(ref: EpisodeRef, table: LeRobotEpisode) -> Float[np.ndarray, "T S"]:
    return np.concatenate([numbers(ref, name, table.array(name), width) for name, width in STATES], axis=1)
