"""What sources of flow that need depth and a camera do alike, before they follow anything."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8

from pipeline.cameras import make_camera_solver
from pipeline.depth import make_depth_estimator
from pipeline.episodes.spill import gathered, release
from pipeline.timing import Stopwatch
from pipeline.vision.lift import depth_edges
from pipeline.vision.scene_cuts import check_cuts
from schemas.cameras import Cameras
from schemas.episode import CameraView, Episode
from schemas.perception import DepthMaps
from schemas.plugins import PluginChoice


@dataclass(frozen=True)
class _Whole:
    """What was found of an episode that is gone through in pieces.

    Attributes:
        episode: its digest.
        camera: the primary one's name.
        row: of each frame, by its number in the source files.
        pictures: the primary view's frames, in a file as the depth.
    """

    episode: str
    camera: str
    row: dict[int, int]
    pictures: UInt8[np.ndarray, "T H W 3"]
    depth: DepthMaps
    cameras: Cameras

    def of(self, part: Episode) -> tuple[DepthMaps, Cameras] | None:
        """Depth and cameras of some of its frames; None where it is another episode or camera."""
        if (self.episode, self.camera) != (part.ref.digest, part.primary):
            return None
        numbers = [part.source_frame(frame) for frame in range(part.length)]
        if not self.row.keys() >= set(numbers):
            return None
        rows = np.array([self.row[number] for number in numbers])
        depth = replace(self.depth, depth=np.array(self.depth.depth[rows]))
        release(self.depth.depth)
        release(self.pictures)
        return depth, replace(self.cameras, world_from_camera=self.cameras.world_from_camera[rows])


class SceneParts:
    """A depth estimator and a camera solver, and what they say of a clip.

    Args:
        depth: of ``pipeline.depth``.
        camera: of ``pipeline.cameras``.
        cut_level: see ``pipeline.vision.scene_cuts``; None not to look for cuts.
    """

    def __init__(self, depth: PluginChoice, camera: PluginChoice, cut_level: float | None):
        self.cut_level = cut_level
        self.depth = make_depth_estimator(depth)
        self.camera = make_camera_solver(camera)
        self._whole: _Whole | None = None

    def see_whole(self, episode: Episode, watch: Stopwatch) -> Episode:
        """Called before an episode is gone through in pieces. Where depth or camera says something of all frames at
        once (``sees_whole``), both are found now, for all of them; pictures and depth lie in temporary files, so that
        memory does not grow with the episode.

        Returns:
            The episode that pieces are to be taken of: it does not read or decode the primary view's frames again.

        Raises:
            BadEpisode: as ``see``.
        """
        self._whole = None
        if not any(getattr(part, "sees_whole", False) for part in (self.depth, self.camera)):
            return episode
        with watch.stage("read"):
            view = _kept(episode.views[episode.primary])
        episode = replace(episode, views={**episode.views, episode.primary: view})
        depth, cameras = self._find(episode, watch, long=True)
        row = {episode.source_frame(frame): frame for frame in range(view.length)}
        self._whole = _Whole(episode.ref.digest, episode.primary, row, view.frames, depth, cameras)
        return episode

    def see(
        self, episode: Episode, depth_edge: float, watch: Stopwatch
    ) -> tuple[DepthMaps, Bool[np.ndarray, "T H W"], Cameras]:
        """Depth of the primary view, its edges (``pipeline.vision.lift.depth_edges``) and the view's cameras; of a
        piece of an episode that was seen whole, its part of what was found then.

        Raises:
            BadEpisode: there is a cut, or depth or cameras cannot be had this way.
        """
        found = self._whole and self._whole.of(episode)
        if found is None:
            self._whole = None  # the last episode's files go before the next one's depth comes
            found = self._find(episode, watch, long=False)
        depth, cameras = found
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


def _kept(view: CameraView) -> CameraView:
    """The view with its frames in a temporary file; as it is where only all of them can be loaded, into memory."""
    if view.read_some is None:
        return view
    frames = gathered(view.length, view.some_frames)
    return replace(view, read_frames=lambda: frames, read_some=None)
