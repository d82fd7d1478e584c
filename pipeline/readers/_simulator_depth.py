"""Depth stored in demonstration files: MuJoCo's normalised z-buffer, or metres. The unit is checked.

LIBERO's tool writes the z-buffer d in [0, 1): metres = near / (1 - d (1 - near / far)). robomimic's writes metres.
Depth read in the wrong unit looks plausible but is wrong, so the stored numbers are checked:

* a z-buffer has no value above 1;
* if the camera's pose is known, the depth in the pixel that shows the robot's hand must be the hand's depth;
* if it is not known, half of the picture cannot be nearer than three times the near plane.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from schemas.cameras import invert_pose, project, transform
from schemas.episode import BadEpisode, CameraView, RecordedDepth

DepthUnit = Literal["z-buffer", "metres"]
Stored = Callable[[Int[np.ndarray, " N"] | None], Float[np.ndarray, "N H W"]]
"""Loads stored depth of some frames, or all, upright."""

HIGHEST = 1 + 1e-5
"""Largest value of a z-buffer, rounding included."""
LOOKED_AT = 5
"""How many evenly spaced frames are used to check the unit."""
HAND_AGREES = 0.15
"""Largest relative difference of the depth seen at the hand from the hand's own; the hand's surface is 4% nearer."""
TOO_NEAR = 3.0
"""In near planes. If half of a picture is nearer than this, the camera would be inside an object."""


@dataclass(frozen=True)
class HandInView:
    """The robot's hand in a camera: column and row in pixels and depth in metres, NaN where it is not in view."""

    uvz: Float[np.ndarray, "T 3"]


def hand_in_view(view: CameraView, hand_xyz: Float[np.ndarray, "T 3"]) -> HandInView | None:
    """The hand in the view of a fixed camera; None if the camera's pose is not known.

    Args:
        hand_xyz: the hand in the world of the camera's pose, metres.
    """
    if view.world_from_camera is None or view.intrinsics is None:
        return None
    uvz = project(transform(invert_pose(view.world_from_camera), hand_xyz.astype(np.float64)), view.intrinsics)
    with np.errstate(invalid="ignore"):
        inside = (uvz >= 0).all(1) & (uvz[:, 0] < view.size[0]) & (uvz[:, 1] < view.size[1])
    return HandInView(np.where(inside[:, None], uvz, np.nan))


@dataclass(frozen=True)
class SimulatorDepth:
    """One camera's stored depth and its unit.

    Attributes:
        name: of episode and depth, for messages.
        stored: reads it.
        length: T.
        unit: the assumed unit of the numbers.
        said: the user gave the unit; else it is the usual one of these files.
        planes: near and far plane in metres, for a z-buffer; None if the file does not have them.
        hand: the hand in the camera's view, used to check the unit.
    """

    name: str
    stored: Stored
    length: int
    unit: DepthUnit
    said: bool
    planes: tuple[float, float] | None
    hand: HandInView | None

    def recorded(self, source: str) -> RecordedDepth | None:
        """The depth for a view; None if it is a z-buffer with unknown planes.

        Args:
            source: where the planes come from.
        """
        if self.unit == "metres":
            said = "metres, as configured" if self.said else "metres"
            return RecordedDepth(self.read, "m", said, self.read_some)
        if self.planes is None:
            return None
        near, far = self.planes
        said = f"normalised z-buffer, near {near:.5g} m, far {far:.5g} m ({source})"
        return RecordedDepth(self.read, "m", said, self.read_some)

    def read(self) -> Float[np.ndarray, "T H W"]:
        """All depth in metres, NaN where there is none.

        Raises:
            BadEpisode: the numbers do not have the assumed unit (``depth_unit``).
        """
        return self._metres(self.stored(None))

    def read_some(self, frames: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N H W"]:
        """The depth of some frames. The unit is always checked on the same frames, whichever are read. See ``read``."""
        return self._metres(self.stored(frames))

    def _metres(self, stored: Float[np.ndarray, "N H W"]) -> Float[np.ndarray, "N H W"]:
        _ = self._checked
        if self.unit == "metres":
            return np.where(np.isfinite(stored) & (stored > 0), stored, np.nan).astype(np.float32)
        self._check_highest(stored)
        assert self.planes is not None
        return metres_of(stored, *self.planes)

    @cached_property
    def _checked(self) -> None:
        """Check on some frames that the numbers have the assumed unit."""
        frames = np.unique(np.linspace(0, self.length - 1, LOOKED_AT).round().astype(int))
        stored = self.stored(frames)
        if self.unit == "z-buffer":
            self._check_highest(stored)
        if self.unit == "metres" and not self.said and stored.max(initial=0, where=np.isfinite(stored)) <= HIGHEST:
            self._check_by_hand(frames, stored, needed=True)
        elif not self._check_by_hand(frames, stored) and self.unit == "z-buffer" and not self.said:
            self._check_nearness(stored)

    def _check_highest(self, stored: Float[np.ndarray, "N H W"]) -> None:
        """Refuse a z-buffer with a value above the largest possible one."""
        if (highest := stored.max(initial=0, where=np.isfinite(stored))) > HIGHEST:
            raise self._fault(f"holds values up to {highest:.4g}, and a z-buffer has none above 1", "metres")

    def _check_by_hand(
        self, frames: Int[np.ndarray, " N"], stored: Float[np.ndarray, "N H W"], needed: bool = False
    ) -> bool:
        """Compare the depth in both units with the hand's depth; returns whether the hand was in view.

        Args:
            needed: the assumed unit must be confirmed.
        """
        other: DepthUnit = "z-buffer" if self.unit == "metres" else "metres"
        off = {"metres": np.inf, "z-buffer": np.inf}
        if self.hand is not None:
            off["metres"] = _off_the_hand(stored, self.hand.uvz[frames])
        if self.hand is not None and self.planes is not None:
            off["z-buffer"] = _off_the_hand(metres_of(stored, *self.planes), self.hand.uvz[frames])
        if off[self.unit] > HAND_AGREES >= off[other]:
            raise self._fault(
                f"read as {self.unit} is {off[self.unit]:.0%} off where the camera sees the hand, and "
                f"{off[other]:.0%} off read as {other}",
                other,
            )
        if needed and off[self.unit] > HAND_AGREES:
            raise self._fault("holds no value above 1, as a z-buffer does not either", self.unit, other)
        return bool(np.isfinite(off[self.unit]))

    def _check_nearness(self, stored: Float[np.ndarray, "N H W"]) -> None:
        """Refuse a z-buffer if half of it would be nearer than any real scene."""
        assert self.planes is not None
        found = metres_of(stored, *self.planes)
        middle = np.median(found[np.isfinite(found)]) if np.isfinite(found).any() else np.inf
        if middle < TOO_NEAR * self.planes[0]:
            raise self._fault(
                f"read as a z-buffer puts half of the picture nearer than {middle:.3f} m, at a near plane of "
                f"{self.planes[0]:.3f} m",
                "metres",
                "z-buffer",
            )

    def _fault(self, what: str, *units: DepthUnit) -> BadEpisode:
        held = {"metres": "metres", "z-buffer": "a z-buffer"}
        choices = " or ".join(f"depth_unit={unit} where it holds {held[unit]}" for unit in units)
        return BadEpisode("depth_unit", f"{self.name} {what}; give --dataset-options {choices}")


def metres_of(buffer: Float[np.ndarray, "N H W"], near: float, far: float) -> Float[np.ndarray, "N H W"]:
    """Depth in metres from a normalised z-buffer; NaN where nothing was rendered."""
    metres = np.empty(buffer.shape, np.float32)
    for frame, stored in zip(metres, buffer, strict=True):  # one at a time stays in the processor's cache
        inside = np.isfinite(stored) & (stored > 0) & (stored < 1)
        frame[:] = near / (1 - np.where(inside, stored, 0).astype(np.float32) * (1 - near / far))
        frame[~inside] = np.nan
    return metres


def _off_the_hand(depth: Float[np.ndarray, "N H W"], hand: Float[np.ndarray, "N 3"]) -> float:
    """Median over the frames of the relative difference between the depth seen at the hand and the hand's depth;
    infinity if the hand is never in view.
    """
    seen = np.flatnonzero(np.isfinite(hand).all(1))
    column, row = hand[seen, :2].astype(int).T
    off = np.abs(depth[seen, row, column] / hand[seen, 2] - 1)
    off = off[np.isfinite(off)]
    return float(np.median(off)) if len(off) else np.inf
