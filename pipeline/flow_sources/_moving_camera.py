"""Checks of tracks under a moving camera, whose poses and depth say where a point is seen if it stands still in the
world, and where if it rides on the camera, as a gripper does in a wrist camera's picture.

* What stands still is looked for where it should be, with its patch seen as the other frame's camera would see it. A
  point found there, or tracked to within a pixel of it, is put at its start exactly.
* What rides on the camera keeps its pixel and its depth. Where points of one surface do so although they are not where
  still points would be, the surface rides, and its points are put where the camera carries them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from pipeline.flow_sources._track_checks import StaticHypothesis, TrackTester, _at, _ever_gone
from pipeline.vision.lift import to_reference
from pipeline.vision.patches import PATCH, patch_distance, patches
from schemas.cameras import invert_pose, lift, project, transform
from schemas.perception import Tracks2D
from schemas.scene_flow import SceneFlow

MOVED = 2.0
"""Px by which a point's still position must have left its pixel for riding and standing to be told apart."""
SURE = 3
"""Times that the evidence for riding must outweigh the evidence for standing."""
FEWEST = 10
"""Points and steps of a surface that must tell that it rides."""
SURFACE = 0.05
"""Share of depth up to which a pixel of a patch belongs to the point's surface."""
NINE = [(across, down) for down in (-1, 0, 1) for across in (-1, 0, 1)]
"""Pixels around one, itself among them."""
CONTRAST = 0.4
"""Of the standard deviation of a patch: by so much more it may differ, because a nearer camera sees finer detail."""
PIXELS = 8
"""Pixels of a patch that must belong to it."""


@dataclass(frozen=True)
class _Votes:
    """How many steps of each point say what, of those in which a still point has left its pixel.

    Attributes:
        rides: pixel, depth and look are kept, and the point is not where it would be if it stood still.
        stands: it is there, and its old pixel shows something else.
        either: both are as expected.
        left_view: pixel, depth and look are kept, and a still point would be outside the picture.
    """

    rides: Int[np.ndarray, " K"]
    stands: Int[np.ndarray, " K"]
    either: Int[np.ndarray, " K"]
    left_view: Int[np.ndarray, " K"]


class MovingCameraTester(TrackTester):
    """Checks the tracks of a clip whose camera moves; see ``TrackTester``."""

    bodies = False
    """Under a moving camera they take still points along, and win hardly any (docs/cameras.md)."""

    def _stand(self, tracks: Tracks2D, flow: SceneFlow, frames: Int[np.ndarray, " S"]) -> StaticHypothesis:
        """As for a camera that stands still, but asking the nine pixels around where a point would be: it lies between
        pixels, and on a slope or at an edge the nearest one shows another depth.
        """
        c, size = self.config, np.array(self.cameras.size)
        poses = self.cameras.world_from_camera[frames]
        start = lift(flow.uvz[:, :1] * [*size, 1], self.cameras.intrinsics)
        expected = project(transform(invert_pose(poses) @ poses[0], start), self.cameras.intrinsics)
        uv, z = expected[..., :2], expected[..., 2]
        with np.errstate(invalid="ignore"):
            around = np.stack([_at(self.depth, frames, uv + shift) for shift in NINE]) / z - 1
            near, far = np.fmin.reduce(around), np.fmax.reduce(around)
            sure = flow.valid[:, :1] & np.isfinite(near) & ((uv >= 0) & (uv < size)).all(axis=-1)
            smooth = ~_at(self.edges, frames, uv)
            there = (np.abs(around) <= c.noise).any(axis=0) | (smooth & (near <= 0) & (far >= 0))
            away = tracks.visible & (np.linalg.norm(tracks.uv - uv, axis=-1) > c.away)
        return StaticHypothesis(
            uv=uv,
            away=away,
            there=sure & there,
            covered=sure & ~there & (far < -c.covered),
            gone=sure & ~there & (near > c.noise),
            plainly_gone=sure & ~there & (near > c.covered),
        )

    def _still_there(
        self, tracks: Tracks2D, stand: StaticHypothesis, frames: Int[np.ndarray, " S"]
    ) -> Bool[np.ndarray, "K S"]:
        home = stand.there & ~_ever_gone(stand) & (stand.away | ~tracks.visible)
        return self._looks_the_same(tracks, stand, frames, home)

    def _without_doubted(
        self,
        tracks: Tracks2D,
        flow: SceneFlow,
        stand: StaticHypothesis,
        home: Bool[np.ndarray, "K S"],
        frames: Int[np.ndarray, " S"],
    ) -> SceneFlow:
        found = super()._without_doubted(tracks, flow, stand, home, frames)
        rests = stand.there & tracks.visible & ~stand.away & ~_ever_gone(stand) & found.valid
        uvz = np.where(rests[..., None], flow.uvz[:, :1], found.uvz)
        rides = self._rides(tracks, flow, stand, frames)
        start = np.repeat(flow.uvz[:, :1] * [*self.cameras.size, 1], len(frames), axis=1)
        carried = to_reference(start, self.cameras.intrinsics, self.cameras.world_from_camera[frames])
        rides &= np.isfinite(carried).all(axis=-1)
        uvz = np.where(rides[..., None], carried / [*self.cameras.size, 1], uvz)
        return SceneFlow(uvz, found.visible | rides, found.valid | rides)

    def _looks_the_same(
        self,
        tracks: Tracks2D,
        stand: StaticHypothesis,
        frames: Int[np.ndarray, " S"],
        asked: Bool[np.ndarray, "K S"],
    ) -> Bool[np.ndarray, "K S"]:
        """Where the patches of points look the same at their still positions; where they do not as they are, as they
        would be seen from there.
        """
        same = np.zeros(asked.shape, bool)
        point, step = np.nonzero(asked)
        first = patches(self.grey, np.full(len(point), tracks.reference), tracks.uv[point, 0])
        then = patches(self.grey, frames[step], stand.uv[point, step])
        same[point, step] = patch_distance(first, then) <= self.config.alike
        other = ~same[point, step]
        point, step = point[other], step[other]
        if len(point):
            same[point, step] = self._seen_as_before(tracks, point, step, frames)
        return same

    def _seen_as_before(
        self, tracks: Tracks2D, point: Int[np.ndarray, " N"], step: Int[np.ndarray, " N"], frames: Int[np.ndarray, " S"]
    ) -> Bool[np.ndarray, " N"]:
        """Whether the pixels around a point that belong to its surface look the same where each of them would be."""
        side = np.arange(PATCH) - PATCH // 2
        around = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        who, which = np.unique(point, return_inverse=True)
        pixels = tracks.uv[who, None, 0] + around  # M P 2
        reference = np.full(pixels.shape[:2], tracks.reference)
        z, own = _each(self.depth, reference, pixels), _at(self.depth, reference[:, 0], tracks.uv[who, 0])[:, None]
        with np.errstate(invalid="ignore"):
            mine = (np.abs(z / own - 1) < SURFACE) & ((pixels >= 0) & (pixels < self.cameras.size)).all(axis=-1)
        looks = _each(self.grey, reference, pixels).astype(np.float32)
        pose = self.cameras.world_from_camera[frames]
        motion = (invert_pose(pose) @ pose[0])[step]
        start = lift(np.concatenate([np.floor(pixels) + 0.5, z[..., None]], axis=-1), self.cameras.intrinsics)[which]
        there = project(transform(motion[:, None], start), self.cameras.intrinsics)[..., :2]
        mine = mine[which] & ((there >= 0.5) & (there < np.array(self.cameras.size) - 0.5)).all(axis=-1)
        now = self._grey_between(np.repeat(frames[step, None], mine.shape[1], axis=1), there)
        off = np.where(mine, np.abs(now - looks[which]), 0).sum(axis=1)
        count = mine.sum(axis=1)
        alike = self.config.alike + CONTRAST * looks.std(axis=1)[which]
        return (count >= PIXELS) & (off <= alike * count)

    def _grey_between(self, frames: Int[np.ndarray, "N P"], uv: Float[np.ndarray, "N P 2"]) -> Float[np.ndarray, "N P"]:
        """Grey levels between pixels, bilinear."""
        place = np.nan_to_num(uv, nan=0.0) - 0.5
        corner = np.floor(place)
        share = place - corner
        level = np.zeros(frames.shape)
        for across in (0, 1):
            for down in (0, 1):
                weight = np.abs(1 - across - share[..., 0]) * np.abs(1 - down - share[..., 1])
                level += weight * _each(self.grey, frames, corner + 0.5 + [across, down])
        return level

    def _rides(
        self, tracks: Tracks2D, flow: SceneFlow, stand: StaticHypothesis, frames: Int[np.ndarray, " S"]
    ) -> Bool[np.ndarray, "K S"]:
        """Steps of points that ride on the camera, in which they have kept their pixel and depth."""
        start = flow.uvz[:, 0] * [*self.cameras.size, 1]
        steps = np.arange(len(frames))
        within = (tracks.reference + steps < len(self.depth)) & flow.valid[:, :1]
        left = np.linalg.norm(stand.uv - start[:, None, :2], axis=-1) > MOVED
        depth = _at(self.depth, frames, start[:, None, :2])
        with np.errstate(invalid="ignore"):
            kept = within & (np.abs(depth - start[:, None, 2]) <= self.config.noise * start[:, None, 2])
        kept[~(kept & left).any(axis=1)] = False
        if not kept.any():
            return kept
        depth_kept = kept.copy()
        point, step = np.nonzero(kept)
        first = patches(self.grey, np.full(len(start), tracks.reference), start[:, :2])
        now = patches(self.grey, frames[step], start[point, :2])
        kept[point, step] = patch_distance(first[point], now) <= self.config.alike
        both = self._looks_the_same(tracks, stand, frames, stand.there & left & within)
        kept_on = kept & left
        inside = ((stand.uv >= 0) & (stand.uv < self.cameras.size)).all(axis=-1)
        votes = _Votes(
            rides=(kept_on & (stand.there | stand.gone) & ~both).sum(axis=1),
            stands=(both & ~kept).sum(axis=1),
            either=(kept_on & both).sum(axis=1),
            left_view=(kept_on & ~inside).sum(axis=1),
        )
        # What is known to ride needs no look: a gripper turns in the light.
        return depth_kept & self._ridden(tracks.reference, start[:, :2], votes)[:, None]

    def _ridden(self, reference: int, uv: Float[np.ndarray, "K 2"], votes: _Votes) -> Bool[np.ndarray, " K"]:
        """Which points ride, by their own evidence and that of the surface they lie on: pixels of the reference frame
        without a depth edge between them.

        Where nothing speaks against standing because a still surface would have left the picture, that it has not left
        is the evidence.
        """
        import cv2

        _, surfaces = cv2.connectedComponents((~self.edges[reference]).astype(np.uint8), connectivity=4)
        own = surfaces[np.floor(uv[:, 1]).astype(int), np.floor(uv[:, 0]).astype(int)]

        def on_surface(of: Int[np.ndarray, " K"]) -> Int[np.ndarray, " K"]:
            return np.bincount(own, of, surfaces.max() + 1)[own].astype(int)

        rides, stands = on_surface(votes.rides), on_surface(votes.stands)
        left_view, either = on_surface(votes.left_view), on_surface(votes.either)
        seen = (rides >= FEWEST) & (rides > SURE * stands)
        left = (left_view >= FEWEST) & (left_view > SURE * (stands + either))
        alone = (votes.rides >= SURE) & (votes.rides > SURE * votes.stands)
        return alone | ((own > 0) & (seen | left) & (votes.rides >= votes.stands))


def _each(maps: Any, frames: Int[np.ndarray, "N P"], uv: Float[np.ndarray, "N P 2"]) -> Shaped[np.ndarray, "N P"]:
    """Values of the maps at the pixels that contain image points, each of a frame of its own."""
    return _at(maps, frames.ravel(), uv.reshape(-1, 2)).reshape(frames.shape)
