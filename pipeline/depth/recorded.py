"""Depth that was recorded with the episode: the most exact there is, where there is any."""

from dataclasses import dataclass

import numpy as np

from pipeline.depth._checks import check_varies
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

    def estimate(self, episode: Episode, view: CameraView) -> DepthMaps:
        """The recorded depth; not finite and not positive values become NaN."""
        if view.depth is None:
            others = ", ".join(name for name in plugin_names("pipeline.depth") if name != "recorded")
            raise BadEpisode(
                "no_depth",
                f"camera {view.name} has no usable recorded depth; choose another with --depth: {others}; or LIBERO files can be recorded "
                "again (create_dataset.py --use-depth, with znear_m and zfar_m or the model's extent) or replayed (--flow simulator)",
            )
        depth = view.depth.read()
        usable = np.isfinite(depth) & (depth > 0)
        if not usable.any():
            raise BadEpisode(
                "no_depth", f"camera {view.name}: not one pixel of the recorded depth is finite and above 0"
            )
        known = depth[usable]
        check_varies(view.name, float(known.min()), float(known.max()), "recorded")
        return DepthMaps(
            depth=np.where(usable, depth, np.float32(np.nan)),
            unit=view.depth.unit,
            source=f"recorded: {view.depth.description}",
        )
