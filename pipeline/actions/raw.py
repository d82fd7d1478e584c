"""No standard form: training uses the dataset's own actions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from schemas.episode import Episode


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def build(config: Config) -> "RawActions":
    """The standard."""
    return RawActions()


class RawActions:
    """See ``pipeline.actions.ActionStandard``."""

    def kept_frames(self, episode: Episode) -> Bool[np.ndarray, " T"]:
        """All frames."""
        return np.ones(episode.length, bool)

    def standardise(self, episode: Episode) -> None:
        """None: there is no form besides the raw one."""
