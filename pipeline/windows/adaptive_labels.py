"""Labels of adaptive keypoints: each window has points of its own, so each is followed by itself.

The regular grid's labels do not change by it. Depth and cameras are those that were found for the grid.
"""

from dataclasses import replace

import numpy as np

from pipeline.episodes.chunks import EpisodeChunk
from pipeline.errors import BuildError
from pipeline.flow_sources import EpisodeFlow, FlowSource, FoundScene, Scene
from pipeline.recipe import QualityConfig
from pipeline.timing import Stopwatch
from pipeline.vision.lift import depth_edges
from pipeline.vision.patches import grey_clip
from pipeline.windows.adaptive_points import WindowView, adaptive_points
from pipeline.windows.labels import label_windows
from pipeline.windows.resampling import StepTimes
from schemas.triplet import AdaptiveFlow


class AdaptiveLabels:
    """Labels adaptive keypoints of the windows of a scene.

    Args:
        source: follows the keypoints.
        scene: of whose windows the grid's labels were made.
        flow: of the grid, with depth and cameras of the scene's frames.
        times: of the steps.
        quality: thresholds.
        watch: counts the time of each stage.

    Raises:
        BuildError: the source gives no depth.
    """

    def __init__(
        self,
        source: FlowSource,
        scene: Scene,
        flow: EpisodeFlow,
        times: StepTimes,
        quality: QualityConfig,
        watch: Stopwatch,
    ):
        if flow.depth is None:
            raise BuildError(
                f"the flow source {flow.name} gives no depth, which --keypoints adaptive needs: leave it out"
            )
        self.source, self.times, self.quality, self.watch = source, times, quality, watch
        view = scene.episode.views[scene.episode.primary]
        self.frames, self.depth, self.cameras = view.frames, flow.depth, flow.cameras
        self.scene = Scene(scene.episode, FoundScene(view.frames, flow.depth, flow.cameras), shown=True)

    def of(self, reference: int, count: int) -> AdaptiveFlow:
        """The labels of a window.

        Args:
            reference: its first frame in the scene.
            count: how many keypoints.

        Raises:
            BadEpisode: the source cannot follow them.
        """
        stop = min(reference + self.times.reach + 1, len(self.frames))
        with self.watch.stage("choose keypoints"):
            points = adaptive_points(self._view(reference, stop), count)
        own = self.scene.slice(EpisodeChunk(reference, stop, (0,)))
        made = label_windows(self.source, own, (0,), points, self.times, self.quality, self.watch)
        ((_, label),) = made.windows
        return AdaptiveFlow(label.flow, label.point_flags)

    def _view(self, reference: int, stop: int) -> WindowView:
        depth = self.depth.depth[reference:stop]
        return WindowView(
            grey=grey_clip(self.frames[reference:stop]),
            depth=depth,
            edges=depth_edges(np.asarray(depth[:1]), self.quality.depth_edge)[0],
            cameras=replace(self.cameras, world_from_camera=self.cameras.world_from_camera[reference:stop]),
        )
