"""No standard form: the dataset's own actions are what there is to train on."""

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
        """All."""
        return np.ones(episode.length, bool)

    def standardise(self, episode: Episode) -> None:
        """Nothing beside the raw form."""
