"""Tracks points from frame to frame, with any method that matches two neighbouring frames.

Points of all reference frames are matched together. A point is not matched if its surroundings are unchanged since it
was last matched; it stays where it is. Most points of a robot scene never move, so this saves time. It also keeps still
points from drifting, and recovers them after an occlusion.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipeline.vision.patches import grey_clip, patch_distance, patches
from schemas.perception import Tracks2D


@dataclass(frozen=True)
class ChainConfig:
    """Settings shared by all chained trackers.

    Attributes:
        forward_backward: largest forward-backward error of a match, in px.
        appearance: mean grey difference (0..255) between the patch where the point was set and where it is now, above
            which it counts as occluded.
        still_window: side in px of the square that must look unchanged for a point to count as not moving, odd.
        still_level: mean grey difference in that square up to which it does.
    """

    forward_backward: float = 1.0
    appearance: float = 25.0
    still_window: int = 5
    still_level: float = 1.0

    def check(self, name: str, odd: Sequence[str] = (), positive: Sequence[str] = ()) -> None:
        """Refuse invalid values, naming the tracker and the field; ``odd`` and ``positive`` are its own fields.

        Raises:
            ValueError: a field that must be odd and at least 3, or above 0, is not.
        """
        for field in (*odd, "still_window"):
            if getattr(self, field) < 3 or getattr(self, field) % 2 == 0:
                raise ValueError(f"{name}.{field} must be odd and at least 3, found {getattr(self, field)}")
        for field in (*positive, "forward_backward", "appearance", "still_level"):
            if getattr(self, field) <= 0:
                raise ValueError(f"{name}.{field} must be above 0, found {getattr(self, field)}")


class GreyClip(ABC):
    """The clip in grey levels, and operations on pairs of its frames."""

    def __init__(self, frames: UInt8[np.ndarray, "T H W 3"], config: ChainConfig):
        self.chain, self.grey = config, grey_clip(frames)
        self.height, self.width = self.grey.shape[1:]
        reach = config.still_window // 2
        padded = [np.pad(g, reach, "reflect") for g in self.grey]
        self.frame_length, self.row_length = padded[0].size, padded[0].shape[1]
        self.padded = np.stack(padded).ravel()
        square = np.arange(config.still_window)
        self.square = (square[:, None] * self.row_length + square).ravel()

    @abstractmethod
    def match(
        self, position: Float[np.ndarray, "M 2"], frame: int
    ) -> tuple[Float[np.ndarray, "M 2"], Bool[np.ndarray, " M"]]:
        """Positions of points in the next frame, and whether the match is consistent forward and backward and lies in
        the image.
        """

    def unchanged(
        self, position: Float[np.ndarray, "M 2"], anchor: Int[np.ndarray, " M"], frame: int
    ) -> Bool[np.ndarray, " M"]:
        """Whether the surroundings of a point look the same in a frame as in its anchor frame."""
        column = np.clip(position[:, 0].astype(int), 0, self.width - 1)
        row = np.clip(position[:, 1].astype(int), 0, self.height - 1)
        # Only the squares around the points are compared; all frames are in one flat array of bytes.
        place = (row * self.row_length + column)[:, None] + self.square
        before = self.padded.take(anchor[:, None] * self.frame_length + place)
        now = self.padded.take(frame * self.frame_length + place)
        difference = np.maximum(before, now) - np.minimum(before, now)
        return difference.sum(axis=1, dtype=np.int32) <= self.chain.still_level * self.square.size

    def inside(self, place: Float[np.ndarray, "M 2"]) -> Bool[np.ndarray, " M"]:
        """Whether points lie in the image."""
        return (place >= 0).all(1) & (place[:, 0] < self.width) & (place[:, 1] < self.height)


@dataclass
class Points:
    """The points of all reference frames, in one row each."""

    position: Float[np.ndarray, "N 2"]  # px, pixel centres at +0.5
    anchor: Int[np.ndarray, " N"]  # frame in which matching last found it at ``position``
    visible: Bool[np.ndarray, " N"]
    looks: Float[np.ndarray, "N P"]  # patch of the point where it was set (``pipeline.vision.patches``)


class ChainedTracker:
    """See ``pipeline.trackers.Tracker``.

    Args:
        clip: makes a ``GreyClip`` of frames.
    """

    def __init__(self, clip: Callable[[UInt8[np.ndarray, "T H W 3"]], GreyClip]):
        self.clip = clip

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
        images = self.clip(frames)
        position, anchor = np.tile(keypoints, (windows, 1)).astype(np.float64), np.repeat(starts, count)
        looks = patches(images.grey, anchor, position)
        points = Points(position, anchor, np.ones(windows * count, bool), looks)
        for frame in range(int(starts.min(initial=0)), len(frames) - 1):
            alive = np.flatnonzero((starts <= frame) & (frame < starts + horizon))
            if len(alive) == 0:
                continue
            rows = (alive[:, None] * count + np.arange(count)).ravel()
            _step(images, frame, points, rows)
            for window in alive:
                step = frame + 1 - starts[window]
                own = slice(window * count, (window + 1) * count)
                uv[window, :, step] = points.position[own]
                visible[window, :, step] = points.visible[own]
        for window, start in enumerate(starts):  # after the clip's end positions do not change
            uv[window, :, len(frames) - start :] = points.position[window * count : (window + 1) * count, None]
        return [Tracks2D(int(r), uv[i], visible[i]) for i, r in enumerate(references)]


def _step(images: GreyClip, frame: int, points: Points, rows: Int[np.ndarray, " M"]) -> None:
    """Move points from a frame to the next."""
    still = images.unchanged(points.position[rows], points.anchor[rows], frame + 1)
    points.visible[rows[still]] = True
    rows = rows[~still & points.visible[rows]]
    if len(rows) == 0:
        return
    # Points of several windows often have the same position: match each position once.
    place = np.ascontiguousarray(points.position[rows]).view(np.complex128)[:, 0]
    _, first, again = np.unique(place, return_index=True, return_inverse=True)
    moved, good = (found[again] for found in images.match(points.position[rows[first]], frame))
    looks = patches(images.grey, np.full(len(rows), frame + 1), moved)
    good &= patch_distance(looks, points.looks[rows]) <= images.chain.appearance
    points.visible[rows] = good
    points.position[rows[good]] = moved[good]
    points.anchor[rows[good]] = frame + 1
