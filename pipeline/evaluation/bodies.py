"""Which rigid body each scored point lies on, of what kind that body is, and how much texture surrounds the point."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

Kind = Literal["arm", "hand", "object", "part", "static"]

CONTRAST_SIDE = 9
"""Side in px of the square whose grey levels tell how much texture surrounds a point."""


@dataclass(frozen=True)
class Body:
    """A rigid body.

    Attributes:
        kind: ``arm`` and ``hand`` of a robot, ``object`` moves freely, ``part`` is hinged to the scene or slides in it
            (drawer, knob), ``static`` cannot move.
    """

    name: str
    kind: Kind


@dataclass(frozen=True)
class BodyMap:
    """The bodies of an episode and the one that each keypoint lies on.

    Attributes:
        bodies: all of them.
        of_point: for every window, the index of each keypoint's body; -1 where there is none.
    """

    bodies: tuple[Body, ...]
    of_point: tuple[Int[np.ndarray, " K"], ...]


@dataclass(frozen=True)
class PointClasses:
    """What is known about the keypoints of one window, besides their flow.

    Attributes:
        bodies: of the episode; None where the exact flow does not tell bodies apart.
        body: index of each keypoint's body; -1 where there is none, or nobody knows.
        contrast: standard deviation of the grey levels around each keypoint in the reference frame.
    """

    bodies: tuple[Body, ...] | None
    body: Int[np.ndarray, " K"]
    contrast: Float[np.ndarray, " K"]

    @property
    def kinds(self) -> np.ndarray:
        """The kind of each keypoint's body, a string; empty where it has none."""
        names = np.array([*(b.kind for b in self.bodies or ()), ""], dtype="<U8")
        return names[self.body]


def local_contrast(frame: UInt8[np.ndarray, "H W 3"], keypoints: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, " K"]:
    """Standard deviation of the grey levels in the square around each keypoint."""
    import cv2

    grey: Any = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float64)
    side = (CONTRAST_SIDE, CONTRAST_SIDE)
    mean, squares = cv2.blur(grey, side), cv2.blur(grey * grey, side)
    column, row = np.floor(keypoints).astype(int).T
    return np.sqrt(np.maximum(squares - mean * mean, 0))[row, column]
