"""LIBERO as OpenVLA standardises it (Kim et al. 2024, appendix E): the gripper is 1 open, 0 closed.

The simulator's gripper is -1 open and +1 close; it is clipped to [0, 1] and turned round. One line of LeRobot files
holds it so already and is left alone, so that both lines come out alike.

``noop_filter`` leaves out frames after which the robot is told to do nothing: the first six numbers have a norm below
1e-4 and the gripper is that of the last frame that stayed. It is how the ``*_no_noops`` files were made; those who load
LIBERO filter nothing, so it is off.
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
        """All, or those at which something is done; a frame without an action stays."""
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
