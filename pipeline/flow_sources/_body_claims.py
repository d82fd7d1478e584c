"""Decides which points move with which body, by depth and appearance over the whole window, and where they then are.

A track may slide along its object where there is little texture, or be lost. The motion of the object, known from its
surest tracks, then says where the point is. It is believed where depth agrees at nearly every step at which the point
is not covered, and the point looks there as it did at first. An object that a hand takes moves with the hand from then
on, and stays where it is when the hand lets go; when that is, the fingers tell (``_holding``).

Depth cannot tell that a plain surface slides along itself: it looks as if it stood still, or its tracks lag behind.
There, the rim decides: a body is not believed if the points around it that have surely left contradict it; and the
points of a surface that nothing shows to stand still go with those that have surely left, and from the same time on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.flow_sources._body_motion import BodyMotion
from pipeline.flow_sources._grip import settled
from pipeline.flow_sources._held_pixels import held_around, leaving, near_hand
from pipeline.flow_sources._holding import Carrier, Hold, find_hold
from pipeline.flow_sources._point_evidence import COSTS, Evidence, Placed, WindowViewer
from pipeline.vision.rigid_motion import lengths

SAMPLED = 3
"""Steps from one at which appearance is compared to the next."""
SHARE, ENCLOSED = 1 / 3, 0.6
"""Share of a point's neighbours on its surface that move with a body, from which it does too: where something changes
at the point, and where nothing is seen to change."""
VOTE = 0.5
"""Grey levels by which one point may speak for a time of departure, so that none outvotes the others."""


@dataclass(frozen=True)
class ClaimConfig:
    """Thresholds.

    Attributes:
        reach: metres from the nearest track of a body within which it may claim a point, when the point sets off.
        told: px by which a point must move for a step to tell anything.
        fewest: such steps at which depth must agree.
        doubt: share of such steps at which depth may contradict.
        unlike: mean grey difference of a claimed point from how it looked first, at most; where it has a track ...
        slack: ... this much more than that of the track ...
        uneven: ... and this share of the standard deviation of its grey levels; or this share instead of ``unlike``, if
            it is more: a rich texture looks different half a pixel off.
        better: a point that seems to stand still must look this many times less unlike where the body takes it ...
        margin: ... and by this many grey levels.
        sure: such steps at which depth must agree, and contradict at none, so that a point which is not at its start
            moves with what holds it however it looks there.
        gone: the same where depth shows that it left its start, and the fingers tell when something is held.
        slide: a body is not believed if it contradicts more than this many times as many points as it explains, of
            those around that depth shows to have left.
    """

    reach: float = 0.2
    told: float = 1.5
    fewest: int = 3
    doubt: float = 0.08
    unlike: float = 15.0
    slack: float = 4.0
    uneven: float = 0.75
    better: float = 0.6
    margin: float = 0.4
    sure: int = 12
    gone: int = 6
    slide: float = 0.5


@dataclass(frozen=True)
class Candidate:
    """A body that points may move with.

    Attributes:
        own: points whose tracks it was found from, or that lie on it.
        carries: its motion is known, and other points move with it while it holds them.
        hold: when that is, where something tells.
    """

    body: BodyMotion
    own: Int[np.ndarray, " m"]
    carries: bool = False
    hold: Hold | None = None


@dataclass(frozen=True)
class Bid:
    """What a body says of the points within its reach.

    Attributes:
        near: which of all points are within reach at step 0.
        point: points that may have left their start, within reach when they do.
        since: the last step before each sets off with the body.
        until: the last step at which it moves with it.
        placed: where they would be.
        explained: depth agrees.
        refuted: depth contradicts.
        accepted: depth and appearance agree.
    """

    near: Bool[np.ndarray, " K"]
    point: Int[np.ndarray, " P"]
    since: Int[np.ndarray, " P"]
    until: Int[np.ndarray, " P"]
    placed: Placed
    explained: Bool[np.ndarray, " P"]
    refuted: Bool[np.ndarray, " P"]
    accepted: Bool[np.ndarray, " P"]


@dataclass(frozen=True)
class Claimed:
    """Points that move with a body, and where they are.

    Attributes:
        point: which points.
        placed: where they are at every step.
        known: steps at which the body's motion is known.
    """

    point: Int[np.ndarray, " P"]
    placed: Placed
    known: Bool[np.ndarray, " S"]


class Claims:
    """The claims of a window's bodies.

    Args:
        evidence: what is known of all points.
        viewer: looks at depth and pictures.
        config: thresholds.
    """

    def __init__(self, evidence: Evidence, viewer: WindowViewer, config: ClaimConfig):
        self.e, self.viewer, self.config = evidence, viewer, config
        self.steps = np.arange(len(viewer.frames))

    def settle(
        self,
        bodies: list[tuple[BodyMotion, Int[np.ndarray, " _"]]],
        carriers: Sequence[Carrier] = (),
    ) -> tuple[list[Claimed], Int[np.ndarray, " Q"]]:
        """Give each point to the body that explains most.

        Args:
            bodies: each with the points whose tracks it was found from.
            carriers: of known motion: points move with them while they are held.

        Returns:
            What was given, and the points of bodies that are not believed, as far as no other body has them.
        """
        hold = find_hold(carriers, self.e, self.viewer, self.config.reach)
        carried, surrounded = [(part.body, part.own) for part in carriers], np.zeros(len(self.e.usable), bool)
        if hold is not None:
            hand, near = carriers[0], near_hand(self.viewer, carriers[0], hold, self.config.reach)
            moving = settled(self.viewer, hand.body, hold, leaving(near, hand, hold, self.viewer.match))
            if moving is not None:
                carried.append((moving, hand.own))
            around = held_around(self.viewer, near, moving or hand.body, hold, self.e.start)
            surrounded = around & self.e.usable & ~self.e.settled
        asked = [Candidate(*body) for body in bodies]
        asked += [Candidate(body, own, carries=True, hold=hold) for body, own in carried]
        waiting = [(candidate, self._bid(candidate, surrounded)) for candidate in asked]
        free, given, doubted = self.e.usable.copy(), [], np.zeros(len(self.e.usable), bool)
        while waiting:
            sizes = [np.count_nonzero(bid.accepted & free[bid.point]) for _, bid in waiting]
            candidate, bid = waiting.pop(int(np.argmax(sizes)))
            rows = np.flatnonzero(bid.accepted & free[bid.point])
            if self._slides(bid, rows):
                doubted[candidate.own] = True
            elif len(rows) >= 2:
                given.append(self._joined(candidate, bid, rows, free))
                free[given[-1].point] = False
        return given, np.flatnonzero(doubted & free)

    def _bid(self, candidate: Candidate, surrounded: Bool[np.ndarray, " K"]) -> Bid:
        """What a body says of the points within its reach.

        Args:
            surrounded: points around which most of what tells is held.
        """
        e, c, (body, own, hold) = self.e, self.config, (candidate.body, candidate.own, candidate.hold)
        reached = lengths(e.start[:, None] - e.start[own]).min(axis=1) < c.reach
        who = np.flatnonzero(e.usable & (e.left | e.stirs | surrounded))
        later = who[e.onset[who] > 0]
        times = [(who, np.zeros(len(who), int), self._never(who)), (later, e.onset[later], self._never(later))]
        if hold is not None:
            times.insert(0, (who, *hold.of(len(who))))
        point, since, until = (np.concatenate(parts) for parts in zip(*times, strict=True))
        path = body.carry(e.start[own], np.zeros(len(own), int))
        apart = lengths(path[:, since] - e.start[point]).min(axis=0)
        near = np.flatnonzero((apart < c.reach) & body.known[since])
        point, since, until = point[near], since[near], until[near]
        placed = self._place(candidate, point, since, until)
        tells, agreed, refused = self._count(placed, point)
        # Of several times of departure the one that explains more. Where depth does not deny it, that is a hold's: a
        # point that the hand covers while it waits would seem to come with it.
        gain = agreed - COSTS * refused
        if hold is not None:
            gain = np.where((since == hold.since) & ~placed.denied(c.doubt), np.inf, placed.gain)
        best = np.full(len(e.usable), -np.inf)
        np.maximum.at(best, point, gain)
        better = np.flatnonzero(gain >= best[point])
        kept = better[np.unique(point[better], return_index=True)[1]]
        point, since, until, placed = point[kept], since[kept], until[kept], placed.some(kept)
        tells, agreed, refused = tells[kept], agreed[kept], refused[kept]
        refuted = refused > c.doubt * (agreed + refused)
        explained = (agreed >= c.fewest) & ~refuted
        accepted = explained & self._alike(point, placed, tells & explained[:, None])
        if candidate.carries:
            held = since == (hold.since if hold is not None else 0)
            stays, told = (e.there[point] & tells).sum(axis=1), tells.sum(axis=1)
            enough = np.where(e.gone[point] & (hold is not None), c.gone, c.sure)
            accepted |= held & (stays <= c.doubt * told) & (agreed >= enough) & (refused == 0)
            accepted |= held & surrounded[point] & (stays <= told / 2) & ~refuted
        return Bid(reached & e.usable, point, since, until, placed, explained, refuted, accepted)

    def _never(self, point: Int[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
        """The last step, for points that are not let go."""
        return np.full(len(point), len(self.steps) - 1)

    def _place(
        self,
        candidate: Candidate,
        point: Int[np.ndarray, " P"],
        since: Int[np.ndarray, " P"],
        until: Int[np.ndarray, " P"],
    ) -> Placed:
        """As ``WindowViewer.held``; and if that comes to be contradicted, the body let go of the points, and they stay
        where they were last found.
        """
        body, sure, start = candidate.body, candidate.carries, self.e.start[point]
        placed = self.viewer.held(body, start, since, until, sure)
        found = np.cumsum(placed.agree - COSTS * placed.contradicted, axis=1).argmax(axis=1)
        rows = np.flatnonzero(placed.denied(self.config.doubt) & (found > self.config.fewest))
        if not len(rows):
            return placed
        again = self.viewer.held(body, start[rows], since[rows], np.minimum(found, until)[rows], sure)
        for whole, part in (
            (placed.xyz, again.xyz),
            (placed.uv, again.uv),
            (placed.agree, again.agree),
            (placed.contradicted, again.contradicted),
        ):
            whole[rows] = part
        return placed

    def _count(
        self, placed: Placed, point: Int[np.ndarray, " P"]
    ) -> tuple[Bool[np.ndarray, "P S"], Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """The steps at which a point has moved far enough to tell anything, and at how many of them depth agrees and
        contradicts.
        """
        off = placed.uv - self.e.still_uv[point]
        with np.errstate(invalid="ignore"):
            tells = off[..., 0] ** 2 + off[..., 1] ** 2 > self.config.told**2
        return tells, (placed.agree & tells).sum(axis=1), (placed.contradicted & tells).sum(axis=1)

    def _alike(
        self, point: Int[np.ndarray, " P"], placed: Placed, tells: Bool[np.ndarray, "P S"]
    ) -> Bool[np.ndarray, " P"]:
        """Whether points look as they did at first where the body takes them."""
        e, c = self.e, self.config
        shown = placed.agree & tells
        sampled = shown & (self.steps % SAMPLED == 0)
        none = ~sampled.any(axis=1)
        sampled[none] = shown[none]
        looks, left = e.looks[point], e.left[point]
        carried = self.viewer.unlike(looks, placed.uv, sampled)
        tracked = self.viewer.unlike(looks, e.track_uv[point], sampled & e.track_valid[point] & left[:, None])
        # A start that something covers looks different, too, and tells nothing.
        still = self.viewer.unlike(looks, e.still_uv[point], sampled & ~left[:, None] & e.there[point])
        uneven = c.uneven * looks.std(axis=1)
        with np.errstate(invalid="ignore"):
            most = np.where(np.isnan(tracked), np.maximum(c.unlike, uneven), tracked + c.slack + uneven)
            alike = carried <= most
            moved = (carried < c.better * still) & (still - carried > c.margin)
        return alike & (left | moved)

    def _slides(self, bid: Bid, rows: Int[np.ndarray, " n"]) -> bool:
        """Whether points on the same surface as the claimed ones have surely left their start, but not as this body
        moves: then its tracks slide along the surface.
        """
        e = self.e
        row_of = np.full(len(e.usable), -1)
        row_of[bid.point] = np.arange(len(bid.point))
        around = np.union1d(e.beside[bid.point[rows]], bid.point[rows])
        around = around[around >= 0]
        asked = row_of[around[e.gone[around] & (row_of[around] >= 0)]]
        refuted = int(np.count_nonzero(bid.refuted[asked]))
        explained = int(np.count_nonzero(bid.explained[asked]))
        return refuted >= 2 and refuted > self.config.slide * explained

    def _joined(
        self,
        candidate: Candidate,
        bid: Bid,
        rows: Int[np.ndarray, " n"],
        free: Bool[np.ndarray, " K"],
    ) -> Claimed:
        """The claimed points, and those beside them on the same surface that nothing shows to stand still.

        Points of one surface set off together: when they are taken hold of, if that is known; else when the first of
        them is seen to leave, unless they look more alike if they move with the body from the start.
        """
        e, (body, own, hold) = self.e, (candidate.body, candidate.own, candidate.hold)
        claimed = np.zeros(len(e.usable), bool)
        claimed[bid.point[rows]] = True
        claimed = self._grown(claimed, free & bid.near & ~e.left)
        since, until = np.zeros(len(e.usable), int), self._never(np.arange(len(e.usable)))
        if hold is not None:
            since[~e.settled], until[~e.settled] = hold.since, hold.until
        since[bid.point[rows]], until[bid.point[rows]] = bid.since[rows], bid.until[rows]
        if hold is None:
            led = claimed.copy()
            led[own] = False
            since = self._together(candidate, led, since)
        point = np.flatnonzero(claimed)
        placed = self._place(candidate, point, since[point], until[point])
        _, agreed, refused = self._count(placed, point)
        kept = np.flatnonzero(refused <= self.config.doubt * (agreed + refused))
        return Claimed(point[kept], placed.some(kept), body.known)

    def _together(
        self, candidate: Candidate, led: Bool[np.ndarray, " K"], since: Int[np.ndarray, " K"]
    ) -> Int[np.ndarray, " K"]:
        """The steps after which points that a body leads set off, the same for those of one surface."""
        count, since = len(led), since.copy()
        group = self._groups(led)
        first = np.full(count, len(self.steps))
        told = np.flatnonzero(led & (since > 0))
        np.minimum.at(first, group[told], since[told])
        first = first[group]
        late = np.flatnonzero(led & (first < len(self.steps)))
        if len(late):
            now, then = (self._unlike_if(candidate, late, at) for at in (since[late], first[late]))
            votes = np.clip(np.nan_to_num(now - then), -VOTE, VOTE) + VOTE / 10
            sums = np.bincount(group[late], votes, count)
            since[late] = np.where(sums[group[late]] > 0, first[late], since[late])
        return since

    def _grown(self, claimed: Bool[np.ndarray, " K"], may: Bool[np.ndarray, " K"]) -> Bool[np.ndarray, " K"]:
        """Claimed points and those, of some, that join them on the same surface, as long as there are any."""
        e = self.e
        joined = e.beside >= 0
        count = joined.sum(axis=1)
        # A surface has no still point amid points that move, even if nothing is seen to change there.
        fewest = np.where(e.stirs, np.maximum(2, SHARE * count), np.maximum(3, ENCLOSED * count))
        while True:
            new = may & ((claimed[e.beside] & joined).sum(axis=1) >= fewest) & ~claimed
            if not new.any():
                return claimed
            claimed = claimed | new

    def _groups(self, points: Bool[np.ndarray, " K"]) -> Int[np.ndarray, " K"]:
        """A number for each of some points, the same for those that others of them join."""
        group, count = np.arange(len(points)), len(points)
        joined = (self.e.beside >= 0) & points[self.e.beside] & points[:, None]
        while True:
            lowest = np.minimum(group, np.where(joined, group[self.e.beside], count).min(axis=1))
            if (lowest == group).all():
                return group
            group = lowest

    def _unlike_if(
        self, candidate: Candidate, point: Int[np.ndarray, " P"], since: Int[np.ndarray, " P"]
    ) -> Float[np.ndarray, " P"]:
        """How unlike themselves points look if they set off with a body after some step."""
        placed = self._place(candidate, point, since, self._never(point))
        return self.viewer.unlike(self.e.looks[point], placed.uv, placed.agree & (self.steps % SAMPLED == 0))
