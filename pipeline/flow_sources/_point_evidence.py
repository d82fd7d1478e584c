"""What depth and pictures say about points: whether a point may be at a place, and whether it looks alike there."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipeline.flow_sources._body_motion import BodyMotion
from pipeline.vision.patches import patch_distance, patches
from schemas.cameras import Cameras, project

COSTS = 4.0
"""Agreeing steps that one contradicting step outweighs."""
NEIGHBOURHOOD = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
CROSS = [(0, 0), (0, 2), (0, -2), (2, 0), (-2, 0)]
"""Pixels around a point by which a change of its surroundings is noticed."""
BETWEEN = (0.2, 0.35, 0.5, 0.65, 0.8)
"""Places on the line between two keypoints where a depth edge separates them."""


@dataclass(frozen=True)
class Placed:
    """Points at supposed places, at every step.

    Attributes:
        xyz: the places in the camera of the reference frame, metres.
        uv: the same in px of each step's own camera.
        agree: depth shows the point there.
        contradicted: depth shows that it is not there: everything around is farther. Neither holds where something
            nearer covers the place, where it is outside the image, or where depth is not known.
    """

    xyz: Float[np.ndarray, "P S 3"]
    uv: Float[np.ndarray, "P S 2"]
    agree: Bool[np.ndarray, "P S"]
    contradicted: Bool[np.ndarray, "P S"]

    @property
    def gain(self) -> Float[np.ndarray, " P"]:
        """What depth says for each point at its places, over all steps."""
        return self.agree.sum(axis=1) - COSTS * self.contradicted.sum(axis=1)

    def denied(self, doubt: float) -> Bool[np.ndarray, " P"]:
        """Points that depth contradicts at more than this share of the steps at which it tells."""
        asked = (self.agree | self.contradicted).sum(axis=1)
        return self.contradicted.sum(axis=1) > doubt * asked

    def some(self, rows: Int[np.ndarray, " n"]) -> "Placed":
        """Some of the points."""
        return Placed(self.xyz[rows], self.uv[rows], self.agree[rows], self.contradicted[rows])


@dataclass(frozen=True)
class Evidence:
    """What tracks and depth said about the points of a window, before bodies are asked.

    Attributes:
        start: positions at step 0, in the camera of the reference frame; only where ``usable``.
        usable: the position at step 0 is known.
        settled: the positions are known otherwise at all steps.
        still_uv: where each point would be seen if it stood still, px of each step's own camera.
        there: depth there is that of the point.
        onset: the last step before the point left its start, as far as depth or its track show; 0 where nothing does.
        left: depth or a sure track shows that the point left its start.
        gone: depth shows it.
        stirs: something changes at the start of a point whose depth there is unchanged: it may have left all the same.
        track_uv: the track, px of each step's own camera.
        track_valid: whether the track is believed there.
        looks: patch of each point in the reference frame.
        beside: nearest keypoints of each point that lie on the same surface in the reference frame; -1 for others.
    """

    start: Float[np.ndarray, "K 3"]
    usable: Bool[np.ndarray, " K"]
    settled: Bool[np.ndarray, " K"]
    still_uv: Float[np.ndarray, "K S 2"]
    there: Bool[np.ndarray, "K S"]
    onset: Int[np.ndarray, " K"]
    left: Bool[np.ndarray, " K"]
    gone: Bool[np.ndarray, " K"]
    stirs: Bool[np.ndarray, " K"]
    track_uv: Float[np.ndarray, "K S 2"]
    track_valid: Bool[np.ndarray, "K S"]
    looks: Float[np.ndarray, "K A"]
    beside: Int[np.ndarray, "K n"]


class WindowViewer:
    """Compares places with the depth and the pictures of a window's steps, of a camera that stands still.

    Args:
        grey: the clip's frames.
        depth: its depth maps, NaN where unknown.
        cameras: its cameras, of which all have the same pose.
        frames: of the window's steps.
        match: largest difference in metres between measured and expected depth.
    """

    def __init__(
        self,
        grey: UInt8[np.ndarray, "T H W"],
        depth: Float[np.ndarray, "T H W"],
        cameras: Cameras,
        frames: Int[np.ndarray, " S"],
        match: float,
    ):
        self.grey, self.depth, self.cameras, self.frames, self.match = grey, depth, cameras, frames, match

    def place(self, xyz: Float[np.ndarray, "P S 3"], known: Bool[np.ndarray, "P S"], sure: bool) -> Placed:
        """Look at depth where points are supposed to be.

        Args:
            xyz: in the camera of the reference frame.
            known: where there is a place.
            sure: see ``shown_at``.
        """
        own = project(xyz, self.cameras.intrinsics)
        agree, contradicted = shown_at(self.depth, self.frames, own, known, self.match, sure)
        return Placed(xyz, own[..., :2], agree, contradicted)

    def held(
        self,
        body: BodyMotion,
        start: Float[np.ndarray, "P 3"],
        since: Int[np.ndarray, " P"],
        until: Int[np.ndarray, " P"],
        sure: bool,
    ) -> Placed:
        """Points that stand still until a step, move with a body from then on until another, and stay there; ``sure``
        if its motion is known."""
        steps = np.arange(len(self.frames))
        still, after = steps <= since[:, None], steps > until[:, None]
        xyz = np.where(still[..., None], start[:, None], body.carry(start, since))
        rest = np.take_along_axis(xyz, until[:, None, None], axis=1)
        known = still | after | (body.known & body.known[since][:, None])
        return self.place(np.where(after[..., None], rest, xyz), known, sure)

    def unlike(
        self, looks: Float[np.ndarray, "P A"], uv: Float[np.ndarray, "P S 2"], where: Bool[np.ndarray, "P S"]
    ) -> Float[np.ndarray, " P"]:
        """Mean grey difference of points from how they looked, over some steps; NaN where there is none."""
        point, step = np.nonzero(where)
        apart = patch_distance(patches(self.grey, self.frames[step], uv[point, step]), looks[point])
        total, count = (np.bincount(point, weight, len(uv)) for weight in (apart, None))
        return np.divide(total, count, out=np.full(len(uv), np.nan), where=count > 0)

    def change(
        self, uv: Float[np.ndarray, "P 2"], where: Bool[np.ndarray, "P S"]
    ) -> tuple[Float[np.ndarray, " P"], Bool[np.ndarray, " P"]]:
        """Largest change of the grey levels around points from the first step to any of some steps, and whether there
        is such a step.
        """
        height, width = self.grey.shape[1:]
        point, step = np.nonzero(where)
        total = np.zeros(len(point))
        begin = self.frames * (height * width)
        for down, right in CROSS:
            column = np.clip(np.floor(uv[..., 0]) + right, 0, width - 1).astype(int)
            row = np.clip(np.floor(uv[..., 1]) + down, 0, height - 1).astype(int)
            place = row * width + column
            first = self.grey.take(begin[0] + place).astype(np.int16)
            total += np.abs(self.grey.take(begin[step] + place[point]) - first[point])
        most = np.zeros(len(uv))
        np.maximum.at(most, point, total / len(CROSS))
        return most, np.logical_or.reduce(where, axis=1)


def shown_at(
    depth: Float[np.ndarray, "T H W"],
    frames: Int[np.ndarray, " S"],
    places: Float[np.ndarray, "P S 3"],
    known: Bool[np.ndarray, "P S"],
    match: float,
    sure: bool,
) -> tuple[Bool[np.ndarray, "P S"], Bool[np.ndarray, "P S"]]:
    """Where depth shows points at supposed places, and where it shows that they are not there.

    At a rim a pixel may show what is behind. So a point is not there only where nothing around it is at its depth.
    Neither holds where something nearer covers the place, outside the image, or where depth is not known. Places that
    follow from a known motion are believed more than those of a motion that was fitted: one pixel around that is at the
    point's depth, or nearer, is enough.

    Args:
        frames: of the steps.
        places: px and depth in each step's own camera.
        known: where there is a place; the others are not looked at.
        match: largest difference in metres between measured and expected depth.
        sure: the motion is known.
    """
    height, width = depth.shape[1:]
    with np.errstate(invalid="ignore"):
        inside = known & ((places[..., :2] >= 0) & (places[..., :2] < (width, height))).all(axis=-1)
    agree, contradicted = np.zeros(known.shape, bool), np.zeros(known.shape, bool)
    point, step = np.nonzero(inside)
    u, v, z = places[point, step].T
    column, row = u.astype(int), v.astype(int)
    begin = frames[step] * height
    with np.errstate(invalid="ignore"):
        off = depth.take((begin + row) * width + column) - z
        agreed, farther = np.abs(off) < match, off >= match
        asked = np.flatnonzero(~agreed & (farther | sure))
        row, column, begin, z = row[asked], column[asked], begin[asked], z[asked]
        for down, right in NEIGHBOURHOOD:
            y, x = np.clip(row + down, 0, height - 1), np.clip(column + right, 0, width - 1)
            off = depth.take((begin + y) * width + x) - z
            agreed[asked] |= np.abs(off) < match
            if sure:
                farther[asked] &= off >= match
    agree[point, step], contradicted[point, step] = agreed, farther & ~agreed
    return agree, contradicted


def nearest_keypoints(uv: Float[np.ndarray, "K 2"], count: int) -> Int[np.ndarray, "K n"]:
    """The nearest other keypoints in the image of each keypoint."""
    apart = ((uv[:, None] - uv) ** 2).sum(axis=-1)
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, axis=1, kind="stable")[:, : min(count, len(uv) - 1)]


def on_same_surface(
    uv: Float[np.ndarray, "K 2"], near: Int[np.ndarray, "K n"], edges: Bool[np.ndarray, "H W"]
) -> Int[np.ndarray, "K n"]:
    """Those of the near keypoints from which no depth edge separates a keypoint; -1 for the others."""
    height, width = edges.shape
    joined = np.ones(near.shape, bool)
    for part in BETWEEN:
        place = np.floor((1 - part) * uv[:, None] + part * uv[near]).astype(int)
        joined &= ~edges[np.clip(place[..., 1], 0, height - 1), np.clip(place[..., 0], 0, width - 1)]
    return np.where(joined, near, -1)
