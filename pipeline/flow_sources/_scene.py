"""Depth and cameras of an episode, for the flow sources that need them."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from pipeline.cameras import make_camera_solver
from pipeline.depth import make_depth_estimator
from pipeline.episodes.slicing import take_frames
from pipeline.episodes.spill import gathered
from pipeline.flow_sources import FoundScene, Scene
from pipeline.flow_sources._noise_bounds import edge_of_noise
from pipeline.timing import Stopwatch
from pipeline.vision.depth_noise import looked_at, measure
from pipeline.vision.depth_steadying import steady
from pipeline.vision.lift import depth_edges
from pipeline.vision.patches import grey_clip
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
        measures: whether noise of depth is measured, and taken out where there is any.
    """

    def __init__(self, depth: PluginChoice, camera: PluginChoice, cut_level: float | None, measures: bool = False):
        self.cut_level, self.measures = cut_level, measures
        self.depth, self.camera = make_depth_estimator(depth), make_camera_solver(camera)

    def observe(self, episode: Episode, chunked: bool, watch: Stopwatch) -> Scene:
        """See ``pipeline.flow_sources.FlowSource.observe``. If depth or cameras need all frames (``needs_all_frames``),
        or depth is noisy, both are computed here. The frames of the primary view of the scene's episode are then in a
        temporary file, and are not read or decoded again.

        Raises:
            BadEpisode: as ``depth_and_cameras``.
        """
        if not chunked:
            return Scene(episode)
        in_chunks = not (self.depth.needs_all_frames or self.camera.needs_all_frames)
        if in_chunks and (not self.measures or self._looks_quiet(episode, watch)):
            return Scene(episode, quiet=True)
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
        depth, cameras = scene.depth_and_cameras() or self._find(scene.episode, watch, long=False, quiet=scene.quiet)
        with watch.stage("depth"):
            return depth, depth_edges(depth.depth, depth_edge + edge_of_noise(depth)), cameras

    def _looks_quiet(self, episode: Episode, watch: Stopwatch) -> bool:
        """Whether the depth of a long episode has no noise, judged from the frames that ``_find`` judges by."""
        with watch.stage("depth"):
            frames = looked_at(episode.length)
            few, depth, cameras = self.some(Scene(episode), frames)
            return measure(grey_clip(few.views[few.primary].frames), depth.depth, cameras, frames) is None

    def some(self, scene: Scene, frames: Int[np.ndarray, " N"]) -> tuple[Episode, DepthMaps, Cameras]:
        """Some frames of an episode that was observed, with their depth and cameras."""
        few, found = take_frames(scene.episode, frames), scene.found
        if found is not None:
            cameras = replace(found.cameras, world_from_camera=found.cameras.world_from_camera[frames])
            return few, replace(found.depth, depth=np.array(found.depth.depth[frames])), cameras
        view = few.views[few.primary]
        depth = self.depth.estimate(few, view)
        return few, depth, self.camera.solve(view, depth)

    def _find(self, episode: Episode, watch: Stopwatch, long: bool, quiet: bool = False) -> tuple[DepthMaps, Cameras]:
        view = episode.views[episode.primary]
        if self.cut_level is not None:
            with watch.stage("look for cuts"):
                check_cuts(view.name, view.frames, self.cut_level)
        with watch.stage("depth"):
            depth = self.depth.estimate(episode, view, long)
        with watch.stage("camera"):
            cameras = self.camera.solve(view, depth)
        if self.measures and not quiet:
            with watch.stage("depth"):
                depth = steadied(view, depth, cameras)
        return depth, cameras


def steadied(view: CameraView, depth: DepthMaps, cameras: Cameras) -> DepthMaps:
    """Depth with the noise that is measured in it. That of a static camera is steadied in place, that of a moving one
    is left as it is.
    """
    frames = looked_at(view.length)
    few = replace(cameras, world_from_camera=cameras.world_from_camera[frames])
    noise = measure(grey_clip(view.frames[frames]), np.asarray(depth.depth[frames]), few, frames)
    if noise is None or cameras.moving:
        return replace(depth, noise=noise)
    left = steady(depth.depth, lambda n: grey_clip(view.frames[n : n + 1])[0], noise)
    return replace(depth, noise=replace(noise, left=left))


def _spilled(view: CameraView) -> CameraView:
    """The view with its frames in a temporary file; unchanged if its frames can only be loaded all at once."""
    if view.read_some is None:
        return view
    frames = gathered(view.length, view.some_frames)
    return replace(view, read_frames=lambda: frames, read_some=None)
