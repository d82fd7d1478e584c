"""Depth that was recorded with the episode: the most accurate choice where it exists."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.depth._validity import bounds, check_varies
from pipeline.episodes.spill import gathered
from schemas.episode import BadEpisode, CameraView, Episode
from schemas.perception import DepthMaps
from schemas.plugins import plugin_names


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


def build(config: Config) -> "RecordedDepthReader":
    """The estimator."""
    return RecordedDepthReader()


class RecordedDepthReader:
    """See ``pipeline.depth.DepthEstimator``."""

    needs_all_frames = False

    def estimate(self, episode: Episode, view: CameraView, long: bool = False) -> DepthMaps:
        """The recorded depth; values that are not finite or not positive become NaN."""
        if view.depth is None:
            others = ", ".join(name for name in plugin_names("pipeline.depth") if name != "recorded")
            raise BadEpisode(
                "no_depth",
                f"camera {view.name} has no usable recorded depth; choose another with --depth: {others}; or LIBERO "
                "files can be recorded "
                "again (create_dataset.py --use-depth, with znear_m and zfar_m or the model's extent) or replayed "
                "(--flow simulator)",
            )
        recorded = view.depth
        depth = gathered(view.length, lambda n: _cleaned(recorded.some(n))) if long else _cleaned(recorded.read())
        low, high = bounds(depth)
        if low > high:
            raise BadEpisode(
                "no_depth", f"camera {view.name}: not one pixel of the recorded depth is finite and above 0"
            )
        check_varies(view.name, low, high, "recorded")
        return DepthMaps(depth, view.depth.unit, f"recorded: {view.depth.description}")


def _cleaned(depth: Float[np.ndarray, "N H W"]) -> Float[np.ndarray, "N H W"]:
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))
