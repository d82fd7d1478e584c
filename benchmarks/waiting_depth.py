"""Recorded depth after a wait without CPU time, as for a model on a GPU; for ``overlap.py`` and tests only."""

import time
from dataclasses import dataclass

import numpy as np

from pipeline.depth import recorded
from pipeline.vision.auto_batch import ShrinkingBatches
from schemas.episode import CameraView, Episode
from schemas.perception import DepthMaps

THREAD_SAFE = True


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        ms: of waiting for each frame.
        batch_size: frames at a time.
        device: as models have it.
    """

    ms: float = 8.0
    batch_size: int = 8
    device: str = "auto"


def build(config: Config) -> "WaitingDepth":
    """The estimator."""
    return WaitingDepth(config)


class WaitingDepth:
    """See ``pipeline.depth.DepthEstimator``."""

    needs_all_frames = False

    def __init__(self, config: Config):
        self.config, self.inner = config, recorded.build(recorded.Config())
        self.batches = ShrinkingBatches(config.batch_size, "none")

    def estimate(self, episode: Episode, view: CameraView, long: bool = False) -> DepthMaps:
        """See ``pipeline.depth.DepthEstimator.estimate``."""
        for _ in self.batches.run(self._wait, np.arange(view.length)):
            pass
        return self.inner.estimate(episode, view, long)

    def _wait(self, frames: np.ndarray) -> int:
        time.sleep(self.config.ms / 1000 * len(frames))
        return len(frames)
