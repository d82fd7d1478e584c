"""Pyramidal Lucas-Kanade (OpenCV): the tracker that needs no weights.

All points that are tracked at a frame, whichever reference frame they were set on, are matched with the next frame in
one call forward and one backward. The time depends on the number of points and not of images; ``_frame_to_frame`` skips
points that do not move.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.trackers._frame_to_frame import ChainConfig, ChainedTracker, GreyClip
from pipeline.vision.lucas_kanade import Matching, match

LICENCE = None
LEAST_WINDOWS = 3
"""A window that covers most of a level finds no match, and every level costs as much as the full image."""


@dataclass(frozen=True)
class Config(ChainConfig):
    """Settings, besides those of every chained tracker.

    Attributes:
        window: side of the square that is matched, in px, odd.
        levels: largest number of pyramid levels above the full image; a level must hold ``LEAST_WINDOWS`` windows side
            by side.
        iterations: at most, per level.
    """

    window: int = 17
    levels: int = 3
    iterations: int = 8

    def __post_init__(self) -> None:
        self.check("lk", odd=["window"], positive=["iterations"])
        if self.levels < 0:
            raise ValueError(f"lk.levels must be 0 or more, found {self.levels}")


def build(config: Config) -> ChainedTracker:
    """The tracker."""
    return ChainedTracker(partial(_Images, config=config))


class _Images(GreyClip):
    def __init__(self, frames: UInt8[np.ndarray, "T H W 3"], config: Config):
        super().__init__(frames, config)
        most = int(np.log2(max(min(self.height, self.width) / (LEAST_WINDOWS * config.window), 1)))
        self.how = Matching(config.window, min(config.levels, most), config.iterations, config.forward_backward)

    def match(
        self, position: Float[np.ndarray, "M 2"], frame: int
    ) -> tuple[Float[np.ndarray, "M 2"], Bool[np.ndarray, " M"]]:
        """See ``GreyClip.match``."""
        moved, good = match(self.grey[frame], self.grey[frame + 1], position, self.how)
        return moved, good & self.inside(moved)
