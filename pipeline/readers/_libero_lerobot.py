"""LIBERO as LeRobot. Two lines of conversions are published; they differ in their keys.

* ``observation.images.image`` and ``wrist_image``, ``observation.state``, ``action``: the gripper is already converted
  to 1 = open.
* ``image``, ``wrist_image``, ``state``, ``actions``: the simulator's own gripper (-1 open), and frames *labelled* 10 a
  second that were recorded at 20.

Both were made from the mirrored RLDS pictures, so the mirroring is undone here too.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.errors import SeveralForms, UnreadableSource
from pipeline.formats.lerobot import LeRobotEpisode, list_lerobot
from pipeline.formats.lerobot_meta import INFO, LeRobotMeta
from pipeline.readers._camera_views import (
    enough_frames,
    find_cameras,
    numbers,
    view_of_lerobot,
    with_fov,
)
from pipeline.readers._instructions import instructions_of
from pipeline.readers._libero_hdf5 import CONVENTION, FOV_Y, STATE_NAMES
from schemas.episode import ActionConvention, Episode, EpisodeRef
from schemas.robot_conventions import LIBERO_DELTA_OPEN

OPEN_IS_ONE = LIBERO_DELTA_OPEN
FPS = 20.0


@dataclass(frozen=True)
class _Line:
    """One of the lines: its keys and the convention of its gripper."""

    name: str
    primary: str
    wrist: str
    state: str
    action: str
    convention: ActionConvention

    @property
    def keys(self) -> tuple[str, ...]:
        return self.primary, self.wrist, self.state, self.action


LINES = (
    _Line(
        "open", "observation.images.image", "observation.images.wrist_image", "observation.state", "action", OPEN_IS_ONE
    ),
    _Line("simulator", "image", "wrist_image", "state", "actions", CONVENTION),
)


class OneLine:
    """Lists LeRobot folders of one line only. Raw actions of the two must not be mixed, because the gripper's sign is
    opposite.
    """

    def __init__(self, wanted: str | None):
        self.wanted = wanted
        self._first: tuple[str, Path] | None = None

    def __call__(self, root: Path, folder: Path) -> Iterator[EpisodeRef | UnreadableSource]:
        """The episodes of a folder; none if it is not of the chosen line.

        Raises:
            SeveralForms: it is of another line than the folders before, and none was chosen.
        """
        name = _line_in(folder)
        if name is not None and self.wanted not in (None, name):
            return
        if name is not None:
            self._first = self._first or (name, folder)
            if self._first[0] != name:
                raise SeveralForms(
                    f"{root} holds two lines of LIBERO's LeRobot files with opposite grippers, {self._first[0]} in "
                    f"{self._first[1].relative_to(root)} and {name} in {folder.relative_to(root)}; choose with "
                    "--dataset-options line=open or line=simulator, or name the folder of one with --input"
                )
        yield from list_lerobot("libero", root, folder, is_ours=missing_key)


def _line_in(folder: Path) -> str | None:
    """The line of a LeRobot folder, or None if it cannot be determined;
    the fault is reported when the folder is listed.
    """
    try:
        features = json.loads((folder / INFO).read_bytes())["features"]
        return next((line.name for line in LINES if set(line.keys) <= set(features)), None)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def missing_key(meta: LeRobotMeta) -> str | None:
    """What is missing if this is not LIBERO."""
    return None if _line_of(meta) else " or ".join(", ".join(line.keys) for line in LINES)


def episode_of_lerobot(ref: EpisodeRef, table: LeRobotEpisode) -> Episode:
    """The table as an episode.

    Raises:
        BadEpisode: it cannot be used.
    """
    enough_frames(ref, table.length)
    line = _line_of(table.meta) or LINES[0]
    fov = {line.primary: FOV_Y["agentview"], line.wrist: FOV_Y["robot0_eye_in_hand"]}
    cameras = find_cameras(ref, {n: partial(view_of_lerobot, table, n, n == line.primary, "mirrored") for n in fov})
    views = {name: with_fov(view, fov[name]) for name, view in cameras.views.items()}
    labelled, told = table.meta.fps, instructions_of([table.tasks()], table.length)
    return Episode(
        ref=ref,
        views=views,
        primary=line.primary,
        wrist=line.wrist if line.wrist in views else None,
        instructions=told.every,
        fps=FPS,
        state=numbers(ref, "state", table.array(line.state), len(STATE_NAMES)),
        state_names=STATE_NAMES,
        actions=numbers(ref, "actions", table.array(line.action), len(CONVENTION.dimensions)),
        action_mask=np.ones(table.length, bool),
        action_convention=line.convention,
        notes=cameras.notes | ({} if labelled == FPS else {"fps": f"labelled {labelled:g}, recorded at {FPS:g}"}),
        frame_instructions=told.by_frame,
        unusable_cameras=cameras.unusable,
    )


def _line_of(meta: LeRobotMeta) -> _Line | None:
    return next((line for line in LINES if set(line.keys) <= set(meta.features)), None)
