"""Tracks the background: corners of a few key frames are tracked as long as possible, and the pose of each frame is
estimated from those it still sees.

A frame is compared with a key frame and not with its neighbour, so errors accumulate only from key frame to key frame,
and there is no drift while the camera stands still.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipeline.cameras._clip import Clip
from pipeline.cameras._corners import area_weights
from pipeline.cameras._ransac_pose import AGREES, Noise, Sighting, find_motion, misfit
from pipeline.vision.lucas_kanade import Matching, match
from schemas.cameras import invert_pose, lift
from schemas.episode import BadEpisode

CELLS = 16
"""Rows and columns of a key frame, each with a corner if it has one."""
WORN = 0.6
"""Share of its first weight of inliers below which a new key frame is added."""
ALIVE = 3
"""Number of key frames that are tracked at a time."""
STRIKES = 3
"""Consecutive frames as an outlier after which a point is dropped."""
STRAY = 2.0
"""Largest correction, in px, of a frame-to-frame track by a direct match with the key frame."""


@dataclass(frozen=True)
class Link:
    """The points of a key frame's background that another frame sees.

    Attributes:
        key: the key frame's number among the key frames.
        frame: index of the other frame.
        points: which of the key frame's points are inliers.
        seen: where they are in the frame: u px, v px, depth.
    """

    key: int
    frame: int
    points: Int[np.ndarray, " N"]
    seen: Float[np.ndarray, "N 3"]


@dataclass(frozen=True)
class Placed:
    """A first estimate of every pose, and the measurements it is based on.

    Attributes:
        world_from_camera: the first camera's frame is the world.
        keys: indices of the key frames; the first is 0.
        points: of each key frame's background: u px, v px, depth.
        links: of all frames, in their order; each to one of the ``ALIVE`` newest key frames before it.
        blind: frames in which the background is seen but has no depth, so that their pose could not be estimated.
    """

    world_from_camera: Float[np.ndarray, "T 4 4"]
    keys: list[int]
    points: list[Float[np.ndarray, "_ 3"]]
    links: list[Link]
    blind: list[int]


@dataclass
class _KeyFrame:
    number: int
    frame: int
    grey: UInt8[np.ndarray, "H W"] | None  # its picture, as long as its points are tracked
    uvz: Float[np.ndarray, "N 3"]  # where its points were set
    weight: Float[np.ndarray, " N"]
    uv: Float[np.ndarray, "N 2"]  # where they are now
    alive: Bool[np.ndarray, " N"]
    strikes: Int[np.ndarray, " N"]  # consecutive frames in which the point was an outlier
    moving: Bool[np.ndarray, " N"]  # an outlier too often: the point lies on something that moves
    fresh: float = 1.0  # inliers' share of the weight in the first frame after it
    sightings: int = 0


class Follower:
    """Tracks the background of one clip.

    Args:
        clip: its pictures and depth, read once from the first frame to the last.
        intrinsics: of the camera.
        noise: of the measurements.
        fewest: inliers needed to estimate a frame's pose; the first frame needs twice as many corners.
    """

    def __init__(
        self,
        clip: Clip,
        intrinsics: Float[np.ndarray, "3 3"],
        noise: Noise,
        fewest: int,
    ):
        self.fewest = fewest
        self.clip, self.intrinsics, self.noise = clip, intrinsics, noise
        self.poses = np.tile(np.eye(4), (clip.length, 1, 1))
        self.active: list[_KeyFrame] = []
        self.keys: list[_KeyFrame] = []
        self.links: list[Link] = []
        self.blind: list[int] = []

    def place(self) -> Placed:
        """Estimate the pose of every frame.

        Raises:
            BadEpisode: ``no_background`` if there are too few points to track, ``camera_jump`` if they are lost from
                one frame to the next.
        """
        self._add_key(0)
        for frame in range(1, self.clip.length):
            self._advance(frame)
            worn = self._place(frame)
            if worn and frame + 1 < self.clip.length:
                self._add_key(frame)
        links = [self._of_the_background(link) for link in self.links]
        return Placed(self.poses, [key.frame for key in self.keys], [key.uvz for key in self.keys], links, self.blind)

    def _of_the_background(self, link: Link) -> Link:
        """The link without points that later frames showed to move, which the first frames cannot tell yet."""
        still = ~self.keys[link.key].moving[link.points]
        return Link(link.key, link.frame, link.points[still], link.seen[still])

    def _add_key(self, frame: int) -> None:
        uvz = self.clip.corners(frame, CELLS)
        if frame == 0 and len(uvz) < 2 * self.fewest:
            raise BadEpisode(
                "no_background",
                f"camera {self.clip.name}: its first frame has {len(uvz)} corners with depth, {2 * self.fewest} are "
                "needed to follow the "
                "background",
            )
        if len(uvz) < self.fewest:
            return  # the older key frames have to suffice
        key = _KeyFrame(
            len(self.keys),
            frame,
            self.clip.grey(frame),
            uvz,
            area_weights(uvz[:, 2]),
            uvz[:, :2].copy(),
            np.ones(len(uvz), bool),
            np.zeros(len(uvz), int),
            np.zeros(len(uvz), bool),
        )
        self.keys.append(key)
        self.active.append(key)
        if len(self.active) > ALIVE:
            self.active.pop(0).grey = None

    def _advance(self, frame: int) -> None:
        """Track all points from the previous frame to this one, then correct them by matching with their key frame."""
        rows = [np.flatnonzero(key.alive) for key in self.active]
        together = np.concatenate([key.uv[mine] for key, mine in zip(self.active, rows, strict=True)])
        grey = self.clip.grey(frame)
        moved, good = match(self.clip.grey(frame - 1), grey, together, Matching())
        ends = np.cumsum([len(mine) for mine in rows])[:-1]
        for key, mine, place, found in zip(self.active, rows, np.split(moved, ends), np.split(good, ends), strict=True):
            if key.frame < frame - 1:
                place = _corrected(key, mine, place, grey)
            found = found & (place >= 0).all(axis=1) & (place < self.clip.size).all(axis=1)
            key.uv[mine[found]] = place[found]
            key.alive[mine[~found]] = False

    def _place(self, frame: int) -> bool:
        """Estimate a frame's pose from the newest key frame that allows it; returns whether a new key frame is due."""
        placed, share, measured = None, 0.0, False
        for key in reversed(self.active):
            rows, sighting = self._sighting(key, frame)
            if len(rows) < self.fewest:
                continue
            measured = True
            if placed is None:
                hints = invert_pose(self._hints(frame)) @ self.poses[key.frame]
                motion, agree, share = find_motion(sighting, self.intrinsics, self.noise, hints)
                if agree.sum() < self.fewest:
                    continue
                placed = self.poses[key.frame] @ invert_pose(motion)
                share *= sighting.weight.sum()
                if not key.sightings:
                    key.fresh = share
            else:
                motion = invert_pose(placed) @ self.poses[key.frame]
                first = lift(sighting.uvz, self.intrinsics)
                agree = misfit(motion[None], first, sighting.seen, self.intrinsics, self.noise)[0] < 4 * AGREES**2
            self._note(key, rows, agree)
            if agree.sum() >= self.fewest:
                key.sightings += 1
                self.links.append(Link(key.number, frame, rows[agree], sighting.seen[agree]))
        if placed is None and not measured and any(key.alive.sum() >= self.fewest for key in self.active):
            self.poses[frame] = self._hints(frame)[-1]
            self.blind.append(frame)
            return False
        if placed is None:
            raise BadEpisode(
                "camera_jump",
                f"camera {self.clip.name}: hardly anything of the background of frame {frame - 1} is found again in "
                f"frame {frame}; the camera "
                "jumps there, or moves faster than it can be followed",
            )
        self.poses[frame] = placed
        newest = self.active[-1]
        return bool(share < WORN * newest.fresh) or newest.sightings == 0

    def _sighting(self, key: _KeyFrame, frame: int) -> tuple[np.ndarray, Sighting]:
        """Points of a key frame that are seen in a frame and have depth away from edges."""
        rows = np.flatnonzero(key.alive)
        z, usable = self.clip.sample(frame, key.uv[rows])
        rows = rows[usable]
        seen = np.concatenate([key.uv[rows], z[usable, None]], axis=1)
        return rows, Sighting(key.uvz[rows], seen, key.weight[rows])

    def _hints(self, frame: int) -> Float[np.ndarray, "P 4 4"]:
        """Initial guesses of the pose: the previous pose, and the previous motion repeated."""
        before = self.poses[frame - 1]
        if frame < 2:
            return before[None]
        return np.stack([before, before @ invert_pose(self.poses[frame - 2]) @ before])

    def _note(self, key: _KeyFrame, rows: np.ndarray, agree: Bool[np.ndarray, " N"]) -> None:
        """Count consecutive frames in which points are outliers, and mark those with too many as moving."""
        key.strikes[rows] = np.where(agree, 0, key.strikes[rows] + 1)
        key.moving |= key.strikes >= STRIKES
        key.alive &= ~key.moving


def _corrected(
    key: _KeyFrame, rows: Int[np.ndarray, " N"], place: Float[np.ndarray, "N 2"], grey: UInt8[np.ndarray, "H W"]
) -> Float[np.ndarray, "N 2"]:
    """Positions in a picture, corrected by direct matching with the key frame where that succeeds."""
    assert key.grey is not None, "it is followed"
    direct, sure = match(key.grey, grey, key.uvz[rows, :2], Matching(), guess=place)
    sure &= np.linalg.norm(direct - place, axis=1) < STRAY
    return np.where(sure[:, None], direct, place)
