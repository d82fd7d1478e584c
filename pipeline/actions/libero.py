"""LIBERO as OpenVLA standardises it (Kim et al. 2024, appendix E): the gripper is 1 open, 0 closed.

The simulator's gripper is -1 open and +1 close; it is clipped to [0, 1] and inverted. One line of LeRobot files is
already stored in this form and is not changed, so that both lines give the same actions.

``noop_filter`` leaves out frames whose action does nothing: the first six numbers have a norm below 1e-4 and the
gripper equals that of the last kept frame. The ``*_no_noops`` files were made with this filter. Published loaders of
LIBERO do not filter, so it is off by default.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from pipeline.actions import check_convention
from pipeline.readers._libero_hdf5 import CONVENTION
from pipeline.readers._libero_lerobot import OPEN_IS_ONE
from schemas.episode import Episode, StandardActions

NOOP_NORM = 1e-4
TAKES = (CONVENTION.name, OPEN_IS_ONE.name)


@dataclass(frozen=True)
class Config:
    """What may differ.

    Attributes:
        noop_filter: leave out frames at which nothing is done.
    """

    noop_filter: bool = False


def build(config: Config) -> "LiberoActions":
    """The standard."""
    return LiberoActions(config)


class LiberoActions:
    """See ``pipeline.actions.ActionStandard``."""

    def __init__(self, config: Config):
        self.config = config

    def kept_frames(self, episode: Episode) -> Bool[np.ndarray, " T"]:
        """All frames, or those whose action does something; a frame without an action is kept."""
        kept = np.ones(episode.length, bool)
        if not self.config.noop_filter:
            return kept
        gripper: float | None = None
        for frame in np.flatnonzero(episode.action_mask):
            action = episode.actions[frame]
            still = np.linalg.norm(action[:6]) < NOOP_NORM
            if still and (gripper is None or action[6] == gripper):
                kept[frame] = False
            else:
                gripper = action[6]
        return kept

    def standardise(self, episode: Episode) -> StandardActions:
        """The same deltas with 1 = open.

        Raises:
            BadEpisode: the actions are not LIBERO's.
        """
        check_convention(episode, TAKES)
        values = episode.actions.copy()
        if episode.action_convention.name == CONVENTION.name:
            values[:, 6] = 1 - np.clip(values[:, 6], 0, 1)
        return StandardActions(values, episode.action_mask, OPEN_IS_ONE)
