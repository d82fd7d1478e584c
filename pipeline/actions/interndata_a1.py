"""InternData-A1 as its authors train on it (InternVLA-A1): joints relative to their position at the beginning of the
action chunk, grippers absolute.

Every action of a chunk is the commanded joint position minus the joint position measured at the chunk's first frame.
``joints=absolute`` keeps the raw form, which is absolute already.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from schemas.episode import ActionConvention, BadEpisode, Episode, StandardActions

RAW = "interndata_a1_joint_position_"
"""Prefix of the raw convention's name; the number of dimensions follows."""


@dataclass(frozen=True)
class Config:
    """What may differ.

    Attributes:
        joints: ``delta`` is relative to the chunk's first frame, ``absolute`` is the raw form.
    """

    joints: Literal["delta", "absolute"] = "delta"


def build(config: Config) -> "InternDataActions":
    """The standard."""
    return InternDataActions(config)


class InternDataActions:
    """See ``pipeline.actions.ActionStandard``."""

    def __init__(self, config: Config):
        self.config = config

    def kept_frames(self, episode: Episode) -> Bool[np.ndarray, " T"]:
        """All frames."""
        return np.ones(episode.length, bool)

    def standardise(self, episode: Episode) -> StandardActions | None:
        """Joints relative to the chunk's first frame.

        Raises:
            BadEpisode: actions and states do not have the same joints.
        """
        if self.config.joints == "absolute":
            return None
        raw = episode.action_convention
        if not raw.name.startswith(RAW) or raw.dimensions != episode.state_names:
            raise BadEpisode(
                "other_actions",
                f"{episode.ref.name}: joints can be made relative where actions and states are of the same joints, "
                "found actions "
                f"{', '.join(raw.dimensions)} and states {', '.join(episode.state_names)}; --action-options "
                "joints=absolute leaves them",
            )
        gripper = np.array(["gripper" in name for name in raw.dimensions])
        convention = ActionConvention(
            name=raw.name.replace("position", "delta"),
            dimensions=raw.dimensions,
            description=(
                "commanded joint positions of each arm in radians minus those measured when the chunk begins; "
                "grippers' absolute positions as the simulator has them (greater is wider)"
            ),
        )
        origin = np.where(gripper, 0, episode.state).astype(episode.state.dtype)
        return StandardActions(episode.actions, episode.action_mask, convention, origin=origin)
