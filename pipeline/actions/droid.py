"""DROID as OpenVLA standardises it: commanded Cartesian velocity, and the gripper turned to 1 = open.

Only datasets with the velocity (RLDS with ``action_dict``, raw, LeRobot with its column) have this standard form. The
others contain only the raw absolute pose, and no standard form is written.

``zero_action_filter``: no window begins where the six velocities are all zero (within 1e-5), whatever the gripper does.
The frames themselves are kept, so that flow continues through them. OpenVLA trains with this filter.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from schemas.episode import ActionConvention, Episode, StandardActions

VELOCITY, GRIPPER = "cartesian_velocity", "gripper_position"
"""Names in ``Episode.other_actions``."""
ZERO = 1e-5
CONVENTION = ActionConvention(
    name="droid_cartesian_velocity",
    dimensions=("vx", "vy", "vz", "wx", "wy", "wz", "gripper"),
    description=(
        "commanded velocity of the hand in the robot's base as DROID's controller takes it (translation, rotation "
        "about x, y, z); gripper position turned round, 1 open, 0 closed"
    ),
)


@dataclass(frozen=True)
class Config:
    """What may differ; the default is as published.

    Attributes:
        zero_action_filter: no window begins where the arm is told to stand still.
    """

    zero_action_filter: bool = True


def build(config: Config) -> "DroidActions":
    """The standard."""
    return DroidActions(config)


class DroidActions:
    """See ``pipeline.actions.ActionStandard``."""

    def __init__(self, config: Config):
        self.config = config

    def kept_frames(self, episode: Episode) -> Bool[np.ndarray, " T"]:
        """All frames."""
        return np.ones(episode.length, bool)

    def standardise(self, episode: Episode) -> StandardActions | None:
        """Velocity and gripper, if the dataset's form has them."""
        velocity, gripper = (episode.other_actions.get(name) for name in (VELOCITY, GRIPPER))
        if velocity is None or gripper is None:
            return None
        values = np.concatenate([velocity, 1 - gripper], axis=1)
        begins = np.any(np.abs(velocity) > ZERO, axis=1) if self.config.zero_action_filter else None
        return StandardActions(values, episode.action_mask, CONVENTION, begins=begins)
