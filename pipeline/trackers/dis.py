"""Dense inverse search (OpenCV; Kroeger et al. 2016): flow of every pixel between neighbouring frames, chained.

The dense flow of a pair of frames is computed once, forward and backward, and used for every point of every window. The
time depends on the number of images and not of points, so it is worthwhile where much moves, or with many windows. No
flow is computed for a pair in which nothing moves.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.trackers._frame_to_frame import ChainConfig, ChainedTracker, GreyClip

LICENCE = None
PRESETS = {"ultrafast": 0, "fast": 1, "medium": 2}
"""OpenCV's numbers."""


@dataclass(frozen=True)
class Config(ChainConfig):
    """Settings, besides those of every chained tracker.

    Attributes:
        preset: how thorough; ``medium`` costs about ten times ``ultrafast``.
    """

    preset: Literal["ultrafast", "fast", "medium"] = "medium"

    def __post_init__(self) -> None:
        self.check("dis")
        if self.preset not in PRESETS:
            raise ValueError(f"dis.preset must be one of {', '.join(PRESETS)}, found {self.preset!r}")


def build(config: Config) -> ChainedTracker:
    """The tracker."""
    return ChainedTracker(partial(_Images, config=config))


class _Images(GreyClip):
    def __init__(self, frames: UInt8[np.ndarray, "T H W 3"], config: Config):
        import cv2

        super().__init__(frames, config)
        self.engine = cv2.DISOpticalFlow.create(PRESETS[config.preset])

    def match(
        self, position: Float[np.ndarray, "M 2"], frame: int
    ) -> tuple[Float[np.ndarray, "M 2"], Bool[np.ndarray, " M"]]:
        """See ``GreyClip.match``. Called once per frame, so the flow is not cached."""
        moved = position + _sample(self.flow(frame, frame + 1), position)
        back = moved + _sample(self.flow(frame + 1, frame), moved)
        good = np.linalg.norm(back - position, axis=1) < self.chain.forward_backward
        return moved, good & self.inside(moved)

    def flow(self, one: int, other: int) -> Float[np.ndarray, "H W 2"]:
        """Displacement in px of every pixel of a frame to another."""
        empty = np.zeros((self.height, self.width, 2), np.float32)
        return self.engine.calc(self.grey[one], self.grey[other], empty)


def _sample(flow: Float[np.ndarray, "H W 2"], at: Float[np.ndarray, "M 2"]) -> Float[np.ndarray, "M 2"]:
    """Flow at points, bilinear; points outside take the border's value."""
    import cv2

    # OpenCV puts the centre of the first pixel at 0, this project at 0.5.
    where = (at - 0.5).astype(np.float32)[:, None]
    found = cv2.remap(flow, where, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found[:, 0].astype(np.float64)
