"""Flow sources: one module each (see ``schemas.plugins``).

A module defines ``Config`` and ``build(config)``, which gives a ``FlowSource``. A config that declares a field
``tracker``, ``depth`` or ``camera`` is given the recipe's choice of that part; one that does not has no use for it, and
the recipe leaves it out. A field with the metadata ``place`` says where files lie on this machine and does not enter
the recipe's digest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from pipeline.timing import Stopwatch
from pipeline.vision.lift import LiftedTracks
from schemas.cameras import Cameras
from schemas.episode import Episode
from schemas.perception import DepthAlignment
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


@runtime_checkable
class FlowSource(Protocol):
    """Gives scene flow for the primary view of an episode.

    One that looks at no pictures says ``looks_at_pictures = False``: then only those of the reference frames are read.
    One that says something of all frames at once also has ``see_whole(episode, watch)``: it is called before an episode
    is gone through in pieces (``pipeline.episodes.chunks``), and gives the episode that pieces are taken of.
    """

    def follow(
        self,
        episode: Episode,
        references: Sequence[int],
        keypoints: Float[np.ndarray, "K 2"],
        horizon: int,
        depth_edge: float,
        watch: Stopwatch,
    ) -> EpisodeFlow:
        """Follow the same keypoints from each reference frame for ``horizon`` steps.

        Args:
            episode: whose primary view is followed.
            references: indices of frames, ascending.
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
