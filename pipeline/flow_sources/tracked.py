"""Flow from pictures: a tracker follows points in the image, depth and cameras carry them to 3D."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.cuts import check_cuts, check_level
from pipeline.flow_sources import EpisodeFlow
from pipeline.lift import LiftedTracks, depth_edges, lift_tracks
from pipeline.stopwatch import Stopwatch
from pipeline.trust import TrackTester, TrustConfig
from schemas.episode import Episode
from schemas.plugins import PluginChoice, load_plugin


@dataclass(frozen=True)
class Config(TrustConfig):
    """The parts, and how far they are believed.

    Attributes:
        tracker: of ``pipeline.trackers``.
        depth: of ``pipeline.depth``.
        camera: of ``pipeline.cameras``.
        test: whether tracks are tested against depth and each other (``pipeline.trust``).
        cut_level: change of the picture from one frame to the next that may be a cut (``pipeline.cuts``); None not to look for cuts.
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

    def __init__(self, config: Config):
        self.name = config.tracker.name
        self.tracker = load_plugin("pipeline.trackers", self.name).build(config.tracker.configure("pipeline.trackers"))
        self.config = config
        self.depth = load_plugin("pipeline.depth", config.depth.name).build(config.depth.configure("pipeline.depth"))
        self.camera = load_plugin("pipeline.cameras", config.camera.name).build(
            config.camera.configure("pipeline.cameras")
        )

    def see_whole(self, episode: Episode) -> None:
        """Called before an episode is gone through in pieces: what depth says of all frames is found now (``pipeline.depth``).

        Raises:
            BadEpisode: this episode's depth cannot be had this way.
        """
        if hasattr(self.depth, "see_whole"):
            self.depth.see_whole(episode, episode.views[episode.primary])

    def follow(
        self,
        episode: Episode,
        references: Sequence[int],
        keypoints: Float[np.ndarray, "K 2"],
        horizon: int,
        depth_edge: float,
        watch: Stopwatch,
    ) -> EpisodeFlow:
        """See ``pipeline.flow_sources.FlowSource.follow``."""
        import cv2

        view = episode.views[episode.primary]
        if self.config.cut_level is not None:
            with watch.stage("look for cuts"):
                check_cuts(view.name, view.frames, self.config.cut_level)
        with watch.stage("depth"):
            depth = self.depth.estimate(episode, view)
            edges = depth_edges(depth.depth, depth_edge)
        with watch.stage("camera"):
            cameras = self.camera.solve(view, depth)
        with watch.stage("track"):
            tracks = self.tracker.track(view.frames, references, keypoints, horizon)

        with watch.stage("test tracks"):
            grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in view.frames]
            tester = TrackTester(grey, depth.depth, edges, cameras, self.config) if self.config.test else None

        def windows() -> Iterator[tuple[int, LiftedTracks]]:
            for track in tracks:
                with watch.stage("lift and judge"):
                    lifted = lift_tracks(track, depth, edges, cameras)
                if tester is not None:
                    with watch.stage("test tracks"):
                        lifted = tester.test(track, lifted)
                yield track.reference, lifted

        return EpisodeFlow(windows(), cameras, depth.unit, depth.source, self.name, depth.alignment)
