"""BridgeData V2 as Octo and OpenVLA standardise it: measured motion replaces commanded motion.

* The first step, whose action is all zero, is left out. If it is not zero, the dataset has already left it out, and
  nothing is removed.
* ``relabel``: the action is the change of the measured pose to the next frame; the last frame then has none. Rotation
  is the difference of Euler angles, as published, except that a difference across +-180 degrees is taken the short way:
  in the published code it jumps by a full turn.
* ``binarise_gripper``: above 0.95 is 1, below 0.05 is 0, and a value in between becomes the next decided value; if none
  follows, the last number is used unchanged.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.actions import check_convention
from pipeline.readers.bridge import CONVENTION
from schemas.episode import Episode, StandardActions
from schemas.robot_conventions import BRIDGE_REACHED_DELTA

OPEN, CLOSED = 0.95, 0.05
TAKES = (CONVENTION.name,)
REACHED = BRIDGE_REACHED_DELTA


@dataclass(frozen=True)
class Config:
    """What may differ; the defaults are as published.

    Attributes:
        relabel: replace commanded by measured motion.
        binarise_gripper: make the gripper 0 or 1.
        drop_first: leave out a first step whose action is all zero.
    """

    relabel: bool = True
    binarise_gripper: bool = True
    drop_first: bool = True


def build(config: Config) -> "BridgeActions":
    """The standard."""
    return BridgeActions(config)


class BridgeActions:
    """See ``pipeline.actions.ActionStandard``."""

    def __init__(self, config: Config):
        self.config = config

    def kept_frames(self, episode: Episode) -> Bool[np.ndarray, " T"]:
        """All frames except a first step whose action is all zero."""
        kept = np.ones(episode.length, bool)
        kept[0] = not (self.config.drop_first and episode.action_mask[0] and not episode.actions[0, :6].any())
        return kept

    def standardise(self, episode: Episode) -> StandardActions:
        """Measured motion and a gripper that is open or closed.

        Raises:
            BadEpisode: the actions are not Bridge's.
        """
        check_convention(episode, TAKES)
        values, mask, convention = episode.actions.copy(), episode.action_mask.copy(), CONVENTION
        if self.config.binarise_gripper:
            values[:, 6] = binarised(values[:, 6])
        if self.config.relabel:
            values[:-1, :6] = pose_changes(episode.state[:, :6])
            values[-1], mask[-1], convention = 0, False, REACHED
        return StandardActions(values, mask, convention)


def pose_changes(poses: Float[np.ndarray, "T 6"]) -> Float[np.ndarray, "T-1 6"]:
    """From each pose to the next: metres, and Euler angles the short way round."""
    moved = np.diff(poses, axis=0)
    turns = np.round(moved[:, 3:] / (2 * np.pi))
    moved[:, 3:] -= turns.astype(moved.dtype) * moved.dtype.type(2 * np.pi)
    return moved


def binarised(gripper: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """1 for open, 0 for closed; values in between become the next decided value."""
    result = gripper.copy()
    following = gripper[-1]
    for frame in range(len(gripper) - 1, -1, -1):
        if gripper[frame] > OPEN:
            following = gripper.dtype.type(1)
        elif gripper[frame] < CLOSED:
            following = gripper.dtype.type(0)
        result[frame] = following
    return result
