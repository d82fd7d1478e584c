"""Flow from pictures: a tracker follows points in the image, and depth and cameras lift them to 3D."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.flow_sources import EpisodeFlow, Scene
from pipeline.flow_sources._moving_camera import MovingCameraTester
from pipeline.flow_sources._noise_bounds import for_noise_of
from pipeline.flow_sources._scene import SceneObserver
from pipeline.flow_sources._track_checks import TrackTester, TrustConfig
from pipeline.timing import Stopwatch
from pipeline.trackers import make_tracker
from pipeline.vision.lift import LiftedTracks, lift_tracks
from pipeline.vision.patches import grey_clip
from pipeline.vision.scene_cuts import check_level
from schemas.episode import Episode
from schemas.plugins import PluginChoice


@dataclass(frozen=True)
class Config(TrustConfig):
    """The parts, and the thresholds of the track checks.

    Attributes:
        tracker: of ``pipeline.trackers``.
        depth: of ``pipeline.depth``.
        camera: of ``pipeline.cameras``.
        test: whether tracks are checked against depth and each other (``pipeline.flow_sources._track_checks``).
        cut_level: change of the picture from one frame to the next that may be a cut (``pipeline.vision.scene_cuts``);
            None not to look for cuts.
    """

    tracker: PluginChoice = PluginChoice("lk")
    depth: PluginChoice = PluginChoice("recorded")
    camera: PluginChoice = PluginChoice("static")
    test: bool = True
    cut_level: float | None = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_level("tracked", self.cut_level)


def build(config: Config) -> "TrackedFlow":
    """The source.

    Raises:
        ValueError: an unknown part, option or value.
    """
    return TrackedFlow(config)


class TrackedFlow:
    """See ``pipeline.flow_sources.FlowSource``."""

    needs_all_pictures = True

    def __init__(self, config: Config):
        self.name = config.tracker.name
        self.tracker = make_tracker(config.tracker)
        self.config = config
        self.observer = SceneObserver(config.depth, config.camera, config.cut_level, config.depth_noise is None)

    def observe(self, episode: Episode, chunked: bool, watch: Stopwatch) -> Scene:
        """See ``pipeline.flow_sources.FlowSource.observe``."""
        return self.observer.observe(episode, chunked, watch)

    def follow(
        self,
        scene: Scene,
        references: Sequence[int],
        keypoints: Float[np.ndarray, "K 2"],
        horizon: int,
        depth_edge: float,
        watch: Stopwatch,
    ) -> EpisodeFlow:
        """See ``pipeline.flow_sources.FlowSource.follow``."""
        view = scene.episode.views[scene.episode.primary]
        depth, edges, cameras = self.observer.depth_and_cameras(scene, depth_edge, watch)
        with watch.stage("track"):
            tracks = self.tracker.track(view.frames, references, keypoints, horizon)

        with watch.stage("test tracks"):
            tester = None
            if self.config.test:
                kind = MovingCameraTester if cameras.moving else TrackTester
                tester = kind(grey_clip(view.frames), depth.depth, edges, cameras, for_noise_of(depth, self.config))

        def windows() -> Iterator[tuple[int, LiftedTracks]]:
            for track in tracks:
                with watch.stage("lift and evaluate"):
                    lifted = lift_tracks(track, depth, edges, cameras)
                if tester is not None:
                    with watch.stage("test tracks"):
                        lifted = tester.test(track, lifted)
                yield track.reference, lifted

        return EpisodeFlow(windows(), cameras, depth.unit, depth.source, self.name, depth.alignment, depth, depth.noise)
