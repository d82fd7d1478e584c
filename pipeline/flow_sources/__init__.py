"""Flow sources: one module each (see ``schemas.plugins``).

A module defines ``Config`` and ``build(config)``, which gives a ``FlowSource``. A config that declares a field
``tracker``, ``depth`` or ``camera`` is given the recipe's choice of that part; one that does not has no use for it, and
the recipe leaves it out. A field with the metadata ``place`` says where files lie on this machine and does not enter
the recipe's digest.
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
from schemas.perception import DepthAlignment, DepthMaps
from schemas.plugins import PluginChoice, build_plugin


@dataclass(frozen=True)
class EpisodeFlow:
    """The flow of an episode's windows, before the quality checks.

    Attributes:
        windows: (reference frame, flow) in ascending order, each made when it is asked for.
        cameras: of the primary view's frames.
        depth_unit: ``m`` or ``relative``.
        depth_source: which estimator, from what, in words.
        name: who followed the points.
        depth_alignment: how depth was brought to metres, if it had to be.
    """

    windows: Iterator[tuple[int, LiftedTracks]]
    cameras: Cameras
    depth_unit: str
    depth_source: str
    name: str
    depth_alignment: DepthAlignment | None = None


@dataclass(frozen=True)
class FoundScene:
    """Depth and cameras of all frames of an episode that is worked on in chunks.

    Attributes:
        pictures: the primary view's frames, in a temporary file (``pipeline.episodes.spill``), as the depth.
    """

    pictures: UInt8[np.ndarray, "T H W 3"]
    depth: DepthMaps
    cameras: Cameras

    def between(self, first: int, stop: int) -> tuple[DepthMaps, Cameras]:
        """Depth and cameras of some of the frames, in memory; the files' memory is given back."""
        depth = replace(self.depth, depth=np.array(self.depth.depth[first:stop]))
        release(self.depth.depth)
        release(self.pictures)
        return depth, replace(self.cameras, world_from_camera=self.cameras.world_from_camera[first:stop])


@dataclass(frozen=True)
class Scene:
    """An episode, or a chunk of one, and what was found from all of its frames.

    Attributes:
        episode: whose primary view is followed.
        found: what had to be found from all frames at once; None where nothing has to be, or the episode is no longer
            than a chunk: then it is found when it is followed.
        first: the number of the first frame among those of ``found``.
    """

    episode: Episode
    found: FoundScene | None = None
    first: int = 0

    def slice(self, chunk: EpisodeChunk) -> "Scene":
        """The scene at a chunk's frames."""
        return Scene(chunk.of(self.episode), self.found, self.first + chunk.first)

    def depth_and_cameras(self) -> tuple[DepthMaps, Cameras] | None:
        """What was found, at this scene's frames."""
        return None if self.found is None else self.found.between(self.first, self.first + self.episode.length)


@runtime_checkable
class FlowSource(Protocol):
    """Gives scene flow for the primary view of an episode: ``observe`` it once, then ``follow`` each of its chunks.

    Attributes:
        needs_all_pictures: whether pictures of all frames are needed; else only those of reference frames are read.
    """

    needs_all_pictures: bool

    def observe(self, episode: Episode, chunked: bool, watch: Stopwatch) -> Scene:
        """Find what must be found from all frames at once.

        Args:
            episode: whose primary view will be followed.
            chunked: the episode is longer than a chunk (``pipeline.episodes.chunks``): what is found goes to temporary
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
            scene: what ``observe`` gave, or a slice of it.
            references: indices of its frames, ascending.
            keypoints: in pixels (``schemas.cameras``), set anew on every reference frame.
            horizon: steps; those beyond the episode's end are given as not visible.
            depth_edge: what counts as a depth discontinuity (``pipeline.vision.lift.depth_edges``).
            watch: counts the time of each stage.

        Raises:
            BadEpisode: this episode's flow cannot be had this way; the message names the choices.
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
