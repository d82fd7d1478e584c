"""Flow sources: one module each (see ``schemas.plugins``).

A module defines ``Config`` and ``build(config)``, which gives a ``FlowSource``. A config that declares a field
``tracker``, ``depth`` or ``camera`` gets the recipe's choice of that part; if it declares no such field, the flow
source does not use the part, and the recipe leaves it out. A field with the metadata ``place`` is a path on this
machine and does not enter the recipe's digest. A module that defines ``MEASURES = False`` measures no flow
(``pipeline.flow_sources.none``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.episodes.chunks import EpisodeChunk
from pipeline.episodes.spill import release
from pipeline.timing import Stopwatch
from pipeline.vision.lift import LiftedTracks
from schemas.cameras import Cameras
from schemas.episode import Episode
from schemas.perception import DepthAlignment, DepthMaps, DepthNoise
from schemas.plugins import PluginChoice, build_plugin


@dataclass(frozen=True)
class EpisodeFlow:
    """The flow of an episode's windows, before the quality checks.

    Attributes:
        windows: (reference frame, flow) in ascending order, computed lazily.
        cameras: of the primary view's frames.
        depth_unit: ``m`` or ``relative``.
        depth_source: which estimator, from what, in words.
        name: what tracked the points.
        depth_alignment: how depth was aligned to metres, if it was.
        depth: of the frames; None of a source that needs none.
        depth_noise: what was measured of depth from frame to frame, if there is any.
    """

    windows: Iterator[tuple[int, LiftedTracks]]
    cameras: Cameras
    depth_unit: str
    depth_source: str
    name: str
    depth_alignment: DepthAlignment | None = None
    depth: DepthMaps | None = None
    depth_noise: DepthNoise | None = None


@dataclass(frozen=True)
class FoundScene:
    """Depth and cameras of all frames of an episode that is processed in chunks.

    Attributes:
        pictures: the primary view's frames, in a temporary file (``pipeline.episodes.spill``), like the depth.
    """

    pictures: UInt8[np.ndarray, "T H W 3"]
    depth: DepthMaps
    cameras: Cameras

    def between(self, first: int, stop: int) -> tuple[DepthMaps, Cameras]:
        """Depth and cameras of some of the frames, in memory; the mapped pages of the files are released."""
        depth = replace(self.depth, depth=np.array(self.depth.depth[first:stop]))
        release(self.depth.depth)
        release(self.pictures)
        return depth, replace(self.cameras, world_from_camera=self.cameras.world_from_camera[first:stop])


@dataclass(frozen=True)
class Scene:
    """An episode, or a chunk of one, with the depth and cameras that were found from all of its frames.

    Attributes:
        episode: its primary view is tracked.
        found: depth and cameras that need all frames at once; None where nothing needs them, or the episode is no
            longer than a chunk: then they are found in ``FlowSource.follow``.
        first: the index in ``found`` of the scene's first frame.
        quiet: the depth of the whole episode was looked at and has no noise, so that its chunks need not be.
        shown: the robot was looked for in the whole episode, or in more of it, and is where its joints say.
    """

    episode: Episode
    found: FoundScene | None = None
    first: int = 0
    quiet: bool = False
    shown: bool = False

    def slice(self, chunk: EpisodeChunk) -> "Scene":
        """The scene restricted to a chunk's frames."""
        return replace(self, episode=chunk.of(self.episode), first=self.first + chunk.first)

    def depth_and_cameras(self) -> tuple[DepthMaps, Cameras] | None:
        """The depth and cameras of this scene's frames, taken from ``found``; None without it."""
        return None if self.found is None else self.found.between(self.first, self.first + self.episode.length)


@runtime_checkable
class FlowSource(Protocol):
    """Gives scene flow for the primary view of an episode: ``observe`` it once, then ``follow`` each of its chunks.

    Attributes:
        needs_all_pictures: whether pictures of all frames are needed; else only those of reference frames are read.
    """

    needs_all_pictures: bool

    def observe(self, episode: Episode, chunked: bool, watch: Stopwatch) -> Scene:
        """Compute what needs all frames at once.

        Args:
            episode: its primary view will be tracked.
            chunked: the episode is longer than a chunk (``pipeline.episodes.chunks``): results are written to temporary
                files, so that memory does not grow with the episode.
            watch: counts the time of each stage.

        Raises:
            BadEpisode: as ``follow``.
        """
        ...

    def follow(
        self,
        scene: Scene,
        references: Sequence[int],
        keypoints: Float[np.ndarray, "K 2"],
        horizon: int,
        depth_edge: float,
        watch: Stopwatch,
    ) -> EpisodeFlow:
        """Follow the same keypoints from each reference frame for ``horizon`` steps.

        Args:
            scene: the result of ``observe``, or a slice of it.
            references: indices of its frames, ascending.
            keypoints: in pixels (``schemas.cameras``), set anew on every reference frame.
            horizon: steps; those beyond the episode's end are given as not visible.
            depth_edge: what counts as a depth discontinuity (``pipeline.vision.lift.depth_edges``).
            watch: counts the time of each stage.

        Raises:
            BadEpisode: this flow source cannot give this episode's flow; the message names the alternatives.
        """
        ...


def make_flow_source(choice: PluginChoice) -> FlowSource:
    """The flow source that was chosen.

    Raises:
        UnknownPlugin: no flow source has this name.
        MissingDependency: what it needs is not there.
        ValueError: an unknown option or value.
    """
    return build_plugin(__name__, choice)
