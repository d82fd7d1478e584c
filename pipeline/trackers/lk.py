"""Pyramidal Lucas-Kanade: the tracker that needs no weights.

Every point that is alive at a frame, whichever reference frame it was set on, is followed to the next frame in one call of
OpenCV forward and one back. Points cost and images do not, so a point whose surroundings look just as they did where it was
last placed is left there without a call; that also keeps still points from drifting, and finds them again when whatever
covered them has gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipeline.appearance import unlikeness
from schemas.perception import Tracks2D

LICENCE = None


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        window: side of the square that is matched, in px, odd.
        levels: pyramid levels above the full image.
        iterations: at most, per level.
        forward_backward: a point must come back this near to where it was, in px.
        appearance: mean grey difference (0..255) between the patch where the point was set and where it is now, above
            which it is taken for covered.
        still_window: side in px of the square that must look unchanged for a point to count as not moving, odd.
        still_level: mean grey difference in that square up to which it does.
    """

    window: int = 15
    levels: int = 3
    iterations: int = 20
    forward_backward: float = 1.0
    appearance: float = 25.0
    still_window: int = 5
    still_level: float = 1.0

    def __post_init__(self) -> None:
        for name in ("window", "still_window"):
            if getattr(self, name) < 3 or getattr(self, name) % 2 == 0:
                raise ValueError(f"lk.{name} must be odd and at least 3, found {getattr(self, name)}")
        for name in ("iterations", "forward_backward", "appearance", "still_level"):
            if getattr(self, name) <= 0:
                raise ValueError(f"lk.{name} must be above 0, found {getattr(self, name)}")
        if self.levels < 0:
            raise ValueError(f"lk.levels must be 0 or more, found {self.levels}")


def build(config: Config) -> "LucasKanade":
    """The tracker."""
    return LucasKanade(config)


@dataclass
class _Points:
    """The points of all reference frames, in one row each."""

    position: Float[np.ndarray, "N 2"]  # px, pixel centres at +0.5
    reference: Int[np.ndarray, "N"]  # frame on which the point was set
    home: Float[np.ndarray, "N 2"]  # where
    anchor: Int[np.ndarray, "N"]  # frame in which it was last seen to stand at ``position`` by matching
    visible: Bool[np.ndarray, "N"]


class LucasKanade:
    """See ``pipeline.trackers.Tracker``."""

    def __init__(self, config: Config):
        self.config = config

    def track(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        references: Sequence[int],
        keypoints: Float[np.ndarray, "K 2"],
        horizon: int,
    ) -> list[Tracks2D]:
        """See ``pipeline.trackers.Tracker.track``."""
        count, windows = len(keypoints), len(references)
        uv = np.repeat(keypoints[None, :, None], horizon + 1, axis=2).repeat(windows, axis=0)
        visible = np.zeros((windows, count, horizon + 1), bool)
        visible[:, :, 0] = True
        starts = np.asarray(references)
        points = _Points(
            position=np.tile(keypoints, (windows, 1)).astype(np.float64),
            reference=np.repeat(starts, count),
            home=np.tile(keypoints, (windows, 1)).astype(np.float64),
            anchor=np.repeat(starts, count),
            visible=np.ones(windows * count, bool),
        )
        images = _Images(frames, self.config)
        for frame in range(int(starts.min(initial=0)), len(frames) - 1):
            alive = np.flatnonzero((starts <= frame) & (frame < starts + horizon))
            if len(alive) == 0:
                continue
            rows = (alive[:, None] * count + np.arange(count)).ravel()
            self._step(images, frame, points, rows)
            for window in alive:
                step = frame + 1 - starts[window]
                own = slice(window * count, (window + 1) * count)
                uv[window, :, step:] = points.position[own, None]
                visible[window, :, step] = points.visible[own]
        return [Tracks2D(int(r), uv[i], visible[i]) for i, r in enumerate(references)]

    def _step(self, images: "_Images", frame: int, points: _Points, rows: Int[np.ndarray, "M"]) -> None:
        """Carry points from a frame to the next."""
        still = images.unchanged(points.position[rows], points.anchor[rows], frame + 1)
        points.visible[rows[still]] = True
        rows = rows[~still & points.visible[rows]]
        if len(rows) == 0:
            return
        moved, good = images.match(points.position[rows], frame)
        good &= images.unlikeness(points.home[rows], points.reference[rows], moved, frame + 1) <= self.config.appearance
        points.visible[rows] = good
        points.position[rows[good]] = moved[good]
        points.anchor[rows[good]] = frame + 1


class _Images:
    """The clip in grey, and what is asked of pairs of its frames."""

    def __init__(self, frames: UInt8[np.ndarray, "T H W 3"], config: Config):
        import cv2

        self.config = config
        self.grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
        self.height, self.width = self.grey[0].shape

    def unchanged(
        self, position: Float[np.ndarray, "M 2"], anchor: Int[np.ndarray, "M"], frame: int
    ) -> Bool[np.ndarray, "M"]:
        """Whether the surroundings of a point look in a frame as they did in its anchor frame."""
        import cv2

        side = self.config.still_window
        column = np.clip(position[:, 0].astype(int), 0, self.width - 1)
        row = np.clip(position[:, 1].astype(int), 0, self.height - 1)
        result = np.empty(len(position), bool)
        for other in np.unique(anchor):
            mine = anchor == other
            difference = cv2.blur(cv2.absdiff(self.grey[other], self.grey[frame]).astype(np.float32), (side, side))
            result[mine] = difference[row[mine], column[mine]] <= self.config.still_level
        return result

    def match(
        self, position: Float[np.ndarray, "M 2"], frame: int
    ) -> tuple[Float[np.ndarray, "M 2"], Bool[np.ndarray, "M"]]:
        """Where points of a frame are in the next, and whether the match holds both ways and stays in the image."""
        import cv2

        c = self.config
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, c.iterations, 0.01)
        options = {"winSize": (c.window, c.window), "maxLevel": c.levels, "criteria": criteria}
        # OpenCV puts the centre of the first pixel at 0, this project at 0.5.
        start = (position - 0.5).astype(np.float32)
        follow: Any = cv2.calcOpticalFlowPyrLK  # its type stubs do not know that the result may be left out
        ahead, found, _ = follow(self.grey[frame], self.grey[frame + 1], start, None, **options)
        back, found_back, _ = follow(self.grey[frame + 1], self.grey[frame], ahead, None, **options)
        moved = ahead.astype(np.float64) + 0.5
        good = (found[:, 0] == 1) & (found_back[:, 0] == 1)
        good &= np.linalg.norm(back - start, axis=1) < c.forward_backward
        good &= (moved >= 0).all(1) & (moved[:, 0] < self.width) & (moved[:, 1] < self.height)
        return moved, good

    def unlikeness(
        self,
        home: Float[np.ndarray, "M 2"],
        reference: Int[np.ndarray, "M"],
        place: Float[np.ndarray, "M 2"],
        frame: int,
    ) -> Float[np.ndarray, "M"]:
        """Mean grey difference between the patch on which each point was set and the patch at a place of a frame."""
        there = np.full(len(place), frame), place
        return unlikeness(self.grey, (reference, home), there)
