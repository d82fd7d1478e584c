"""Pyramidal Lucas-Kanade (OpenCV): the tracker that needs no weights.

Every point that is alive at a frame, whichever reference frame it was set on, is followed to the next frame in one call forward
and one back. Points cost and images do not; how points that do not move are spared that is told in ``_chained``.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.trackers._chained import ChainConfig, ChainedTracker, GreyClip

LICENCE = None


@dataclass(frozen=True)
class Config(ChainConfig):
    """Settings, besides those of every chained tracker.

    Attributes:
        window: side of the square that is matched, in px, odd.
        levels: pyramid levels above the full image.
        iterations: at most, per level.
    """

    window: int = 15
    levels: int = 3
    iterations: int = 20

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
        self.config = config

    def match(
        self, position: Float[np.ndarray, "M 2"], frame: int
    ) -> tuple[Float[np.ndarray, "M 2"], Bool[np.ndarray, "M"]]:
        """See ``GreyClip.match``."""
        import cv2

        c = self.config
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, c.iterations, 0.01)
        options = {"winSize": (c.window, c.window), "maxLevel": c.levels, "criteria": criteria}
        # OpenCV puts the centre of the first pixel at 0, this project at 0.5.
        start = (position - 0.5).astype(np.float32)
        follow: Any = cv2.calcOpticalFlowPyrLK  # its type stubs do not know that the result may be left out
        ahead, found, _ = follow(self.grey[frame], self.grey[frame + 1], start, None, **options)
        back, found_back, _ = follow(self.grey[frame + 1], self.grey[frame], ahead, None, **options)
        moved = ahead.astype(np.float64) + 0.5
        good = (found[:, 0] == 1) & (found_back[:, 0] == 1)
        good &= np.linalg.norm(back - start, axis=1) < c.forward_backward
        return moved, good & self.inside(moved)
