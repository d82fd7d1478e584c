"""Which points of a window a check doubts: what pictures show, and by what windows are ranked."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool

from pipeline.self_check.windows import MOVES_PX, CheckedWindow

DOUBTED_PX = 4.0
"""Px from which a track does not return, or two disagree."""


@dataclass(frozen=True)
class Doubts:
    """Points that some check doubts.

    Attributes:
        stray: by tracker: followed to the end and back, they are not where they started, or lost.
        drift: by tracker: the pictures show that they stand still, and the tracker moves them.
        disagree: two trackers put them at places ``DOUBTED_PX`` apart, at any step.
        both: points that at least two trackers see at some step, of which ``disagree`` are some.
    """

    stray: dict[str, Bool[np.ndarray, " K"]]
    drift: dict[str, Bool[np.ndarray, " K"]]
    disagree: Bool[np.ndarray, " K"]
    both: Bool[np.ndarray, " K"]

    @property
    def count(self) -> int:
        """Points that any check doubts."""
        return int(np.any([*self.stray.values(), *self.drift.values(), self.disagree], axis=0).sum())


def doubts(window: CheckedWindow) -> Doubts:
    """The doubtful points of a window."""
    names = list(window.tracks)
    nobody = np.zeros(len(window.moving), bool)
    still = nobody if window.background is None else window.background
    disagree, both = nobody.copy(), nobody.copy()
    for one, other in combinations(names, 2):
        apart = window.apart(one, other)
        disagree |= (np.nan_to_num(apart) > DOUBTED_PX).any(axis=1)
        both |= ~np.isnan(apart[:, 1:]).all(axis=1)
    return Doubts(
        stray={name: np.nan_to_num(window.returned[name], posinf=np.inf) > DOUBTED_PX for name in names},
        drift={name: still & (np.nan_to_num(window.travelled(name)).max(axis=1) > MOVES_PX) for name in names},
        disagree=disagree,
        both=both,
    )
