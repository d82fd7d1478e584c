"""Checks tracks against depth and against each other, and removes or repairs the wrong ones.

A tracker follows similar appearance. When something passes in front of a still point, the track is dragged along; when
a moving point gets close to the rim of its object, the track slides off. Depth reveals both errors, for any tracker:

* *Depth test.* A still point is, in every frame, where that frame's camera sees its start. If the depth there is
  unchanged, the point may still be there; if it is smaller, something occludes the point; if it is larger, the point
  has moved. If a track moves away while its start has the same depth and looks the same, it was dragged.
* *Rigidity test.* Points of a rigid object keep their distances in 3D. A moving point that touched a depth edge is
  accepted only where it keeps them, and a point that clearly does not keep them is rejected, unless depth and its track
  show it still at its start.

Two repairs are made, each verified by depth. A point found at its start is put there. A moving point that was lost or
strayed is put where its neighbours' rigid motion carries it, if the depth there is as expected; these are flagged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from pipeline.flow_sources._body_claims import ClaimConfig, Claims
from pipeline.flow_sources._body_motion import find_bodies
from pipeline.flow_sources._holding import Carrier
from pipeline.flow_sources._point_evidence import Evidence, WindowViewer, nearest_keypoints, on_same_surface
from pipeline.vision.depth_noise import EXACT
from pipeline.vision.lift import LiftedTracks
from pipeline.vision.patches import patch_distance, patches
from pipeline.vision.rigid_motion import lengths, predict
from schemas.cameras import Cameras, invert_pose, lift, project, transform
from schemas.perception import Tracks2D
from schemas.scene_flow import SceneFlow


@dataclass(frozen=True)
class TrustConfig:
    """Thresholds. Where depth is relative, the unit of "metres" is the median of the depth over the episode.

    Attributes:
        depth_noise: noise of depth between frames at a place that does not move, as a share of depth; None to measure
            it from the clip, and to take it out where the camera stands still.
        covered: share of depth by which something must be nearer than a still point to occlude it or drag it along.
        away: distance in px from the point's still position above which the track counts as moving.
        alike: mean grey difference (0..255) up to which two patches look the same.
        rim: half the side, in px, of the square in which something nearer can drag a point along.
        neighbours: number of nearest moving points that a point is compared with ...
        reach: ... if they are within this many metres.
        stretch: metres by which the distance to a neighbour may change.
        carry: whether lost and strayed moving points are put where their neighbours carry them.
        agree: root mean square error in metres up to which neighbours move as one rigid body.
        astray: distance in metres from the carried position above which a track is rejected.
        match: largest difference in metres between measured and expected depth at a carried position.
        close: metres from where a body takes a point up to which the point's own track is kept.
        beside: nearest keypoints that count as neighbours on a surface.
        stir: change in grey levels of a point's surroundings above which it may have left its start although depth is
            unchanged there ...
        quiet: ... besides this many times the usual change of points that stand still.
        tolerance: factor on ``stretch``, ``agree``, ``astray`` and ``match``, the bounds on motion: above 1 keeps more
            moving points with larger errors, below 1 fewer with smaller ones (curve in ``docs/flow-accuracy.md``).
    """

    depth_noise: float | None = None
    covered: float = 0.02
    away: float = 1.0
    alike: float = 6.0
    rim: int = 5
    neighbours: int = 16
    reach: float = 0.2
    stretch: float = 0.008
    carry: bool = True
    agree: float = 0.006
    astray: float = 0.01
    match: float = 0.01
    close: float = 0.004
    beside: int = 8
    stir: float = 0.3
    quiet: float = 1.5
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(TrustConfig)):
            if name != "carry" and getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, found {getattr(self, name)}")

    @property
    def noise(self) -> float:
        """``depth_noise`` as given, or that of exact depth."""
        return EXACT if self.depth_noise is None else self.depth_noise

    @property
    def bounds(self) -> "TrustConfig":
        """The same thresholds with the tolerance multiplied in."""
        scaled = {name: self.tolerance * getattr(self, name) for name in ("stretch", "agree", "astray", "match")}
        return replace(self, **scaled, tolerance=1.0)


@dataclass(frozen=True)
class StaticHypothesis:
    """Where points would be seen if they stood still, and what depth shows there; all false where depth is unknown.

    Attributes:
        uv: in px of each step's own camera.
        away: the track is elsewhere.
        there: the depth is as expected.
        covered: something is clearly nearer.
        gone: the depth is larger: the point cannot be there.
        plainly_gone: it is larger by more than the threshold ``covered``.
    """

    uv: Float[np.ndarray, "K S 2"]
    away: Bool[np.ndarray, "K S"]
    there: Bool[np.ndarray, "K S"]
    covered: Bool[np.ndarray, "K S"]
    gone: Bool[np.ndarray, "K S"]
    plainly_gone: Bool[np.ndarray, "K S"]


class TrackTester:
    """Checks the tracks of one clip.

    Args:
        grey: its frames.
        depth: its depth maps, NaN where unknown.
        edges: depth discontinuities (``pipeline.vision.lift.depth_edges``).
        cameras: its cameras.
        config: thresholds.
    """

    bodies = True
    """Whether points are given to rigid bodies."""

    def __init__(
        self,
        grey: UInt8[np.ndarray, "T H W"],
        depth: Float[np.ndarray, "T H W"],
        edges: Bool[np.ndarray, "T H W"],
        cameras: Cameras,
        config: TrustConfig,
    ):
        import cv2

        self.grey, self.depth, self.edges, self.cameras, self.config = grey, depth, edges, cameras, config.bounds
        self._near: tuple[np.ndarray, np.ndarray] | None = None
        square = np.ones((2 * config.rim + 1,) * 2, np.uint8)
        self.nearest = np.empty(depth.shape, np.float32)
        # One frame at a time: a second array of all would double the memory.
        for nearest, frame in zip(self.nearest, depth, strict=True):
            nearest[:] = cv2.erode(np.where(np.isfinite(frame), frame, np.inf).astype(np.float32), square)

    def test(
        self,
        tracks: Tracks2D,
        lifted: LiftedTracks,
        bodies: Sequence[Carrier] = (),
        settled: Int[np.ndarray, " _"] | None = None,
    ) -> LiftedTracks:
        """Remove wrong track positions of a window, first by the depth test, then by the rigidity test with moving
        neighbours; then restore points that their neighbours can carry.

        Args:
            bodies: whose motion is known; they may hold others.
            settled: points whose positions are known otherwise: no body is looked for among them.
        """
        steps = tracks.reference + np.arange(tracks.uv.shape[1])
        frames, within = np.minimum(steps, len(self.depth) - 1), steps < len(self.depth)
        stand = self._stand(tracks, lifted.flow, frames)
        home = self._still_there(tracks, stand, frames) & within
        flow = self._without_doubted(tracks, lifted.flow, stand, home, frames)
        moved = stand.away & ~home & flow.valid
        movers = np.flatnonzero(moved.any(axis=1))
        edge = lifted.edge & flow.visible & ~home
        if len(movers):
            before = flow.valid[movers]
            vouched, edge[movers] = self._ask_neighbours(flow.uvz[movers], before, edge[movers])
            # An object that waits to be taken does not keep its distance to the hand that comes.
            rests = before & ~vouched & (stand.there & ~stand.away & tracks.visible)[movers]
            flow.uvz[movers] = np.where(rests[..., None], flow.uvz[movers, :1], flow.uvz[movers])
            flow.valid[movers] = vouched | rests
        carried = np.zeros(flow.valid.shape, bool)
        held = np.zeros(flow.valid.shape, bool)
        if self.config.carry:
            if self.bodies:
                flow, held, carried = self._give_to_bodies(
                    tracks, flow, stand, moved, lifted.flow.valid[:, 0], frames, bodies, settled
                )
            held &= within
            flow.valid[:, ~within] = False
            movers = np.union1d(movers, np.flatnonzero(held.any(axis=1)))
            lost = (_ever_gone(stand) & stand.gone) | np.maximum.accumulate(moved & flow.valid, axis=1)
            wanted = lost & within & lifted.flow.valid[:, :1] & ~held
            flow, placed = self._carry_twice(flow, wanted, movers, frames)
            carried |= placed
        edge[movers] &= ~_valid_from_there_on(flow.valid[movers])
        hole = lifted.hole & flow.visible & ~home & ~carried
        return LiftedTracks(flow, hole, edge & ~carried & ~held, carried)

    def _give_to_bodies(
        self,
        tracks: Tracks2D,
        flow: SceneFlow,
        stand: StaticHypothesis,
        moved: Bool[np.ndarray, "K S"],
        usable: Bool[np.ndarray, " K"],
        frames: Int[np.ndarray, " S"],
        known: Sequence[Carrier],
        settled: Int[np.ndarray, " _"] | None,
    ) -> tuple[SceneFlow, Bool[np.ndarray, "K S"], Bool[np.ndarray, "K S"]]:
        """Put points where the rigid bodies that they move with take them.

        Args:
            tracks: of the window.
            flow: after the tests of single tracks and of neighbours.
            stand: what depth shows where points would be if they stood still.
            moved: where a track has left its start.
            usable: points whose depth is known in the reference frame.
            frames: of the steps.
            known, settled: see ``test``.

        Returns:
            The flow, the steps at which a body holds a point, and those at which that is not where the track was.
        """
        c, cameras = self.config, self.cameras
        scale = np.array([*cameras.size, 1])
        held, put = np.zeros(flow.valid.shape, bool), np.zeros(flow.valid.shape, bool)
        asked = np.logical_or.reduce(moved & flow.valid, axis=1)
        if settled is not None:
            asked[settled] = False
        who = np.flatnonzero(asked)
        xyz = lift(flow.uvz * scale, cameras.intrinsics)
        found = find_bodies(xyz[who], flow.valid[who], c.reach, c.stretch, c.agree)
        bodies = [(body, who[body.members]) for body in found]
        if not bodies and not known:
            return flow, held, put
        viewer = WindowViewer(self.grey, self.depth, cameras, frames, c.match)
        evidence = self._evidence(tracks, flow, xyz, stand, moved, usable, settled, viewer)
        given, doubted = Claims(evidence, viewer, ClaimConfig()).settle(bodies, known)
        uvz, visible, valid = flow.uvz.copy(), flow.visible.copy(), flow.valid.copy()
        valid[doubted] &= ~moved[doubted]
        later = np.arange(len(frames)) > 0
        for claimed in given:
            mine, places = claimed.point, claimed.placed
            asked, agree = claimed.known & later, places.agree & later
            replaced = agree & ~(valid[mine] & (lengths(xyz[mine] - places.xyz) < c.close))
            there = np.where(replaced[..., None], project(places.xyz, cameras.intrinsics) / scale, uvz[mine])
            uvz[mine], held[mine], put[mine] = there, agree, replaced
            visible[mine] = np.where(asked, agree, visible[mine])
            valid[mine] = np.where(asked, agree, valid[mine])
        return SceneFlow(uvz, visible, valid), held, put

    def _evidence(
        self,
        tracks: Tracks2D,
        flow: SceneFlow,
        xyz: Float[np.ndarray, "K S 3"],
        stand: StaticHypothesis,
        moved: Bool[np.ndarray, "K S"],
        usable: Bool[np.ndarray, " K"],
        settled: Int[np.ndarray, " _"] | None,
        viewer: WindowViewer,
    ) -> Evidence:
        """What is known of the points before bodies are asked."""
        gone, away = _ever_gone(stand)[:, 0], moved & flow.valid
        left = gone | (away.sum(axis=1) >= 2)
        since = (stand.gone & gone[:, None]) | away
        still_uv = np.where(np.isfinite(stand.uv[:, 0]), stand.uv[:, 0], -1.0)
        change, known = viewer.change(still_uv, stand.there & ~left[:, None])
        usual = float(np.median(change[known])) if known.any() else 0.0
        start = tracks.uv[:, 0]
        if self._near is None or not np.array_equal(self._near[0], start):
            self._near = start, nearest_keypoints(start, self.config.beside)
        return Evidence(
            start=xyz[:, 0],
            usable=usable,
            settled=np.zeros(len(start), bool) if settled is None else np.isin(np.arange(len(start)), settled),
            still_uv=np.broadcast_to(still_uv[:, None], stand.uv.shape),
            there=stand.there,
            onset=np.where(left, np.maximum(since.argmax(axis=1) - 1, 0), 0),
            left=left,
            gone=gone,
            stirs=change > self.config.quiet * usual + self.config.stir,
            track_uv=tracks.uv,
            track_valid=flow.valid,
            looks=patches(self.grey, np.full(len(start), tracks.reference), start),
            beside=on_same_surface(start, self._near[1], self.edges[tracks.reference]),
        )

    def _without_doubted(
        self,
        tracks: Tracks2D,
        flow: SceneFlow,
        stand: StaticHypothesis,
        home: Bool[np.ndarray, "K S"],
        frames: Int[np.ndarray, " S"],
    ) -> SceneFlow:
        """The flow with points that are still at their start put there, and steps that show something else removed."""
        doubted = self._dragged(tracks, stand, home, frames)
        # A track that stays although its start is occluded or empty shows something else.
        doubted |= tracks.visible & ~stand.away & (stand.covered | stand.plainly_gone)
        rests = home
        if self.config.noise > EXACT:  # what noise alone moves is put back, too
            rests = home | (stand.there & tracks.visible & ~stand.away & ~_ever_gone(stand))
        uvz = np.where(rests[..., None], flow.uvz[:, :1], flow.uvz)
        valid = (flow.valid & ~doubted) | (home & flow.valid[:, :1])
        return SceneFlow(uvz, (tracks.visible & ~doubted) | home, valid)

    def _carry_twice(
        self,
        flow: SceneFlow,
        wanted: Bool[np.ndarray, "K S"],
        movers: Int[np.ndarray, " M"],
        frames: Int[np.ndarray, " S"],
    ) -> tuple[SceneFlow, Bool[np.ndarray, "K S"]]:
        """Carry points twice: the second pass also uses points recovered by the first, and finds more strayed points
        because those found by the first no longer lead.
        """
        first, newly = self._carry(flow, wanted, movers, frames)
        again, later = self._carry(first, wanted, movers, frames, newly | (first.valid != flow.valid))
        return again, newly | later

    def _stand(self, tracks: Tracks2D, flow: SceneFlow, frames: Int[np.ndarray, " S"]) -> StaticHypothesis:
        cameras, c = self.cameras, self.config
        start = flow.uvz[:, :1] * [*cameras.size, 1]
        if cameras.moving:
            pose = invert_pose(cameras.world_from_camera[frames]) @ cameras.world_from_camera[frames[0]]
            expected = project(transform(pose, lift(start, cameras.intrinsics)), cameras.intrinsics)
        else:
            expected = start  # one step, broadcast to all
        uv, z = expected[..., :2], expected[..., 2]
        found = _at(self.depth, frames, uv)
        sure = flow.valid[:, :1] & np.isfinite(found) & ((uv >= 0) & (uv < cameras.size)).all(axis=-1)
        if cameras.moving:  # the expected position lies between pixels: at an edge its depth is ambiguous
            sure &= ~_at(self.edges, frames, uv)
        off = tracks.uv - uv
        return StaticHypothesis(
            uv=np.broadcast_to(uv, off.shape),
            away=tracks.visible & (off[..., 0] ** 2 + off[..., 1] ** 2 > c.away**2),
            there=sure & (np.abs(found - z) <= c.noise * z),
            covered=sure & (found < (1 - c.covered) * z),
            gone=sure & (found > (1 + c.noise) * z),
            plainly_gone=sure & (found > (1 + c.covered) * z),
        )

    def _still_there(
        self, tracks: Tracks2D, stand: StaticHypothesis, frames: Int[np.ndarray, " S"]
    ) -> Bool[np.ndarray, "K S"]:
        """Where the tracker is lost or elsewhere, but depth and appearance show that the point is at its start.

        Points whose start was empty at some time are excluded: they move, and another place of the same object may then
        look like them.
        """
        home = stand.there & ~_ever_gone(stand) & (stand.away | ~tracks.visible)
        rows, columns = np.nonzero(home)
        first = patches(self.grey, np.full(len(rows), tracks.reference), tracks.uv[rows, 0])
        then = patches(self.grey, frames[columns], stand.uv[rows, columns])
        home[rows, columns] = patch_distance(first, then) <= self.config.alike
        return home

    def _dragged(
        self, tracks: Tracks2D, stand: StaticHypothesis, home: Bool[np.ndarray, "K S"], frames: Int[np.ndarray, " S"]
    ) -> Bool[np.ndarray, "K S"]:
        """Where a track is away from its start although the point was found there at another step, or where something
        nearer may have dragged it along.
        """
        dragged = np.zeros(home.shape, bool)
        who = np.flatnonzero(stand.away.any(axis=1))
        away, found_again = stand.away[who], home[who].any(axis=1, keepdims=True)
        own = _at(self.depth, frames, tracks.uv[who])
        beside_nearer = _at(self.nearest, frames, tracks.uv[who]) < (1 - self.config.covered) * own
        led = away & beside_nearer & (~_ever_gone(stand) & (stand.there | stand.covered))[who]
        dragged[who] = away & (found_again | np.maximum.accumulate(led, axis=1))
        return dragged

    def _ask_neighbours(
        self, uvz: Float[np.ndarray, "M S 3"], valid: Bool[np.ndarray, "M S"], edge: Bool[np.ndarray, "M S"]
    ) -> tuple[Bool[np.ndarray, "M S"], Bool[np.ndarray, "M S"]]:
        """Which steps of moving points remain valid after the rigidity test, and the steps from which on each point had
        touched a depth edge.
        """
        c = self.config
        points = lift(uvz * [*self.cameras.size, 1], self.cameras.intrinsics)
        asked, stretch = self._stretch(points, valid)
        vouched = (asked >= 2) & (stretch <= c.stretch)
        refuted = (asked >= 3) & (stretch > 2 * c.stretch)
        touched = np.maximum.accumulate(edge & (np.arange(edge.shape[1]) > 0), axis=1)
        valid = valid & (vouched | ~touched) & ~refuted
        return valid, touched

    def _carry(
        self,
        flow: SceneFlow,
        wanted: Bool[np.ndarray, "K S"],
        movers: Int[np.ndarray, " M"],
        frames: Int[np.ndarray, " S"],
        changed: Bool[np.ndarray, "K S"] | None = None,
    ) -> tuple[SceneFlow, Bool[np.ndarray, "K S"]]:
        """Put lost and strayed points where their neighbours carry them, or remove them; returns also which were put.

        Predictions are skipped where no neighbour has ``changed``: the result would be the same as before.
        """
        c, cameras = self.config, self.cameras
        scale = np.array([*cameras.size, 1])
        xyz = lift(flow.uvz * scale, cameras.intrinsics)
        leaders = np.zeros(len(xyz), bool)
        leaders[movers] = True
        wanted = wanted & (np.arange(wanted.shape[1]) > 0)
        found = predict(xyz, flow.valid, leaders, wanted, c.neighbours, c.reach, c.agree, changed)
        at = found.point, found.step
        poses = cameras.world_from_camera[frames]
        own = project(transform(invert_pose(poses[found.step]) @ poses[0], found.xyz), cameras.intrinsics)
        depth = _at(self.depth, frames[found.step], own[:, :2])
        inside = ((own[:, :2] >= 0) & (own[:, :2] < cameras.size)).all(axis=-1)
        there = project(found.xyz, cameras.intrinsics)
        with np.errstate(invalid="ignore"):
            confirmed = inside & (np.abs(depth - own[:, 2]) < c.match) & np.isfinite(there).all(axis=-1)
        strayed = ~flow.valid[at] | (lengths(xyz[at] - found.xyz) > c.astray)
        put = np.zeros(wanted.shape, bool)
        put[at] = confirmed & strayed
        uvz, valid = flow.uvz.copy(), flow.valid.copy()
        uvz[put] = (there / scale)[confirmed & strayed]
        valid[at] &= ~strayed
        return SceneFlow(uvz, flow.visible | put, valid | put), put

    def _stretch(
        self, points: Float[np.ndarray, "M S 3"], valid: Bool[np.ndarray, "M S"]
    ) -> tuple[Int[np.ndarray, "M S"], Float[np.ndarray, "M S"]]:
        """How many neighbours each point has at each step, and the median change of the distance to them."""
        start = points[:, 0]
        apart = lengths(start[:, None] - start)
        np.fill_diagonal(apart, np.inf)
        near = np.argsort(apart, axis=1)[:, : self.config.neighbours]
        before = np.take_along_axis(apart, near, axis=1)[..., None]
        now = lengths(points[:, None] - points[near])
        usable = valid[near] & (before < self.config.reach)
        with np.errstate(invalid="ignore"):
            change = np.sort(np.where(usable, np.abs(now - before), np.inf), axis=1)
        asked = usable.sum(axis=1)
        middle = np.maximum((asked - 1) // 2, 0)[:, None]
        return asked, np.take_along_axis(change, middle, axis=1)[:, 0]


def _ever_gone(stand: StaticHypothesis) -> Bool[np.ndarray, "K 1"]:
    """Points whose start was empty in at least two steps, so that a single wrong depth has no effect."""
    return stand.gone.sum(axis=1, keepdims=True) >= 2


def _valid_from_there_on(valid: Bool[np.ndarray, "M S"]) -> Bool[np.ndarray, "M S"]:
    """Whether a point is valid at a step or at any later one."""
    return np.maximum.accumulate(valid[:, ::-1], axis=1)[:, ::-1]


def _at(maps: Any, frames: Int[np.ndarray, " S"], uv: Float[np.ndarray, "*k #S 2"]) -> Shaped[np.ndarray, "*k S"]:
    """Values of the maps at the pixels that contain image points; the last axis of the points runs over ``frames``.
    Points outside take the border's value.
    """
    height, width = maps.shape[1:]
    uv = np.nan_to_num(uv)
    row = np.clip(np.floor(uv[..., 1]).astype(int), 0, height - 1)
    column = np.clip(np.floor(uv[..., 0]).astype(int), 0, width - 1)
    return maps.take((frames * height + row) * width + column)
