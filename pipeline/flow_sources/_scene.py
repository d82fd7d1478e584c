"""What sources of flow that need depth and a camera do alike, before they follow anything."""

import numpy as np
from jaxtyping import Bool

from pipeline.cuts import check_cuts
from pipeline.lift import depth_edges
from pipeline.stopwatch import Stopwatch
from schemas.cameras import Cameras
from schemas.episode import Episode
from schemas.perception import DepthMaps
from schemas.plugins import PluginChoice, load_plugin


class SceneParts:
    """A depth estimator and a camera solver, and what they say of a clip.

    Args:
        depth: of ``pipeline.depth``.
        camera: of ``pipeline.cameras``.
        cut_level: see ``pipeline.cuts``; None not to look for cuts.
    """

    def __init__(self, depth: PluginChoice, camera: PluginChoice, cut_level: float | None):
        self.cut_level = cut_level
        self.depth = load_plugin("pipeline.depth", depth.name).build(depth.configure("pipeline.depth"))
        self.camera = load_plugin("pipeline.cameras", camera.name).build(camera.configure("pipeline.cameras"))

    def see_whole(self, episode: Episode) -> None:
        """Called before an episode is gone through in pieces: what depth says of all frames is found now (``pipeline.depth``).

        Raises:
            BadEpisode: this episode's depth cannot be had this way.
        """
        if hasattr(self.depth, "see_whole"):
            self.depth.see_whole(episode, episode.views[episode.primary])

    def see(
        self, episode: Episode, depth_edge: float, watch: Stopwatch
    ) -> tuple[DepthMaps, Bool[np.ndarray, "T H W"], Cameras]:
        """Depth of the primary view, its edges (``pipeline.lift.depth_edges``) and the view's cameras.

        Raises:
            BadEpisode: there is a cut, or depth or cameras cannot be had this way.
        """
        view = episode.views[episode.primary]
        if self.cut_level is not None:
            with watch.stage("look for cuts"):
                check_cuts(view.name, view.frames, self.cut_level)
        with watch.stage("depth"):
            depth = self.depth.estimate(episode, view)
            edges = depth_edges(depth.depth, depth_edge)
        with watch.stage("camera"):
            return depth, edges, self.camera.solve(view, depth)
