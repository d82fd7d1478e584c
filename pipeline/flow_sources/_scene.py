"""Depth and cameras of an episode, for the flow sources that need them."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from pipeline.cameras import make_camera_solver
from pipeline.depth import make_depth_estimator
from pipeline.episodes.spill import gathered
from pipeline.flow_sources import FoundScene, Scene
from pipeline.timing import Stopwatch
from pipeline.vision.lift import depth_edges
from pipeline.vision.scene_cuts import check_cuts
from schemas.cameras import Cameras
from schemas.episode import CameraView, Episode
from schemas.perception import DepthMaps
from schemas.plugins import PluginChoice


class SceneObserver:
    """Runs a depth estimator and a camera solver on episodes.

    Args:
        depth: of ``pipeline.depth``.
        camera: of ``pipeline.cameras``.
        cut_level: see ``pipeline.vision.scene_cuts``; None not to look for cuts.
    """

    def __init__(self, depth: PluginChoice, camera: PluginChoice, cut_level: float | None):
        self.cut_level = cut_level
        self.depth, self.camera = make_depth_estimator(depth), make_camera_solver(camera)

    def observe(self, episode: Episode, chunked: bool, watch: Stopwatch) -> Scene:
        """See ``pipeline.flow_sources.FlowSource.observe``. If depth or cameras need all frames (``needs_all_frames``),
        both are computed here. The frames of the primary view of the scene's episode are then in a temporary file, and
        are not read or decoded again.

        Raises:
            BadEpisode: as ``depth_and_cameras``.
        """
        if not chunked or not (self.depth.needs_all_frames or self.camera.needs_all_frames):
            return Scene(episode)
        with watch.stage("read"):
            view = _spilled(episode.views[episode.primary])
        episode = replace(episode, views={**episode.views, episode.primary: view})
        depth, cameras = self._find(episode, watch, long=True)
        return Scene(episode, FoundScene(view.frames, depth, cameras))

    def depth_and_cameras(
        self, scene: Scene, depth_edge: float, watch: Stopwatch
    ) -> tuple[DepthMaps, Bool[np.ndarray, "T H W"], Cameras]:
        """Depth of the primary view, its edges (``pipeline.vision.lift.depth_edges``) and the view's cameras: those
        computed by ``observe``, else computed now.

        Raises:
            BadEpisode: there is a cut, or depth or cameras cannot be found.
        """
        depth, cameras = scene.depth_and_cameras() or self._find(scene.episode, watch, long=False)
        with watch.stage("depth"):
            return depth, depth_edges(depth.depth, depth_edge), cameras

    def _find(self, episode: Episode, watch: Stopwatch, long: bool) -> tuple[DepthMaps, Cameras]:
        view = episode.views[episode.primary]
        if self.cut_level is not None:
            with watch.stage("look for cuts"):
                check_cuts(view.name, view.frames, self.cut_level)
        with watch.stage("depth"):
            depth = self.depth.estimate(episode, view, long)
        with watch.stage("camera"):
            return depth, self.camera.solve(view, depth)


def _spilled(view: CameraView) -> CameraView:
    """The view with its frames in a temporary file; unchanged if its frames can only be loaded all at once."""
    if view.read_some is None:
        return view
    frames = gathered(view.length, view.some_frames)
    return replace(view, read_frames=lambda: frames, read_some=None)
