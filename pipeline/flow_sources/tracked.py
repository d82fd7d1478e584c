"""Flow from pictures: a tracker follows points in the image, depth and cameras carry them to 3D."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.flow_sources import EpisodeFlow
from pipeline.lift import LiftedTracks, depth_edges, lift_tracks
from pipeline.stopwatch import Stopwatch
from schemas.episode import Episode
from schemas.plugins import PluginChoice, load_plugin


@dataclass(frozen=True)
class Config:
    """The parts.

    Attributes:
        tracker: of ``pipeline.trackers``.
        depth: of ``pipeline.depth``.
        camera: of ``pipeline.cameras``.
    """

    tracker: PluginChoice = PluginChoice("lk")
    depth: PluginChoice = PluginChoice("recorded")
    camera: PluginChoice = PluginChoice("static")


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
        self.depth = load_plugin("pipeline.depth", config.depth.name).build(config.depth.configure("pipeline.depth"))
        self.camera = load_plugin("pipeline.cameras", config.camera.name).build(
            config.camera.configure("pipeline.cameras")
        )

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
        view = episode.views[episode.primary]
        with watch.stage("depth"):
            depth = self.depth.estimate(view)
            edges = depth_edges(depth.depth, depth_edge)
        with watch.stage("camera"):
            cameras = self.camera.solve(view, depth)
        with watch.stage("track"):
            tracks = self.tracker.track(view.frames, references, keypoints, horizon)

        def windows() -> Iterator[tuple[int, LiftedTracks]]:
            for track in tracks:
                with watch.stage("lift and judge"):
                    lifted = lift_tracks(track, depth, edges, cameras)
                yield track.reference, lifted

        return EpisodeFlow(windows(), cameras, depth.unit, depth.source, self.name)
