"""Point trackers: one module each (see ``schemas.plugins``).

A tracker module defines ``Config``, ``build(config)``, which gives a ``Tracker``, and ``LICENCE``, which is shown where
it restricts use.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from schemas.perception import Tracks2D
from schemas.plugins import PluginChoice, build_plugin


@runtime_checkable
class Tracker(Protocol):
    """Follows keypoints through a clip."""

    def track(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        references: Sequence[int],
        keypoints: Float[np.ndarray, "K 2"],
        horizon: int,
    ) -> list[Tracks2D]:
        """Follow the same keypoints from each reference frame for ``horizon`` steps.

        Args:
            frames: RGB, upright.
            references: indices of frames, ascending.
            keypoints: in pixels (``schemas.cameras``), set anew on every reference frame.
            horizon: steps to follow; steps beyond the clip's end are given as not visible.
        """
        ...


def make_tracker(choice: PluginChoice) -> Tracker:
    """The tracker that was chosen.

    Raises:
        UnknownPlugin: no tracker has this name.
        MissingDependency: what it needs is not there.
        ValueError: an unknown option or value.
    """
    return build_plugin(__name__, choice)
