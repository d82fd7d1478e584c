"""Rigid bodies are found from tracks, and carry the points that slide or seem to stand still on a plain surface."""

import dataclasses

import numpy as np
import pytest

from pipeline.evaluation.synthetic_scene import RigidWorld
from pipeline.flow_sources._body_claims import ClaimConfig, Claims
from pipeline.flow_sources._body_motion import BodyMotion, find_bodies
from pipeline.flow_sources._holding import Carrier, find_hold
from pipeline.flow_sources._point_evidence import NEIGHBOURHOOD, Evidence, WindowViewer, shown_at
from pipeline.flow_sources._track_checks import TrackTester, TrustConfig
from pipeline.vision.lift import depth_edges, lift_tracks
from pipeline.vision.patches import patches
from schemas.cameras import Cameras, lift, transform
from schemas.perception import DepthMaps, Tracks2D
from schemas.scene_flow import keypoint_grid

STEPS = 17
TIME = np.linspace(0, 1, STEPS)


def pose(angle: float, x: float, y: float, z: float) -> np.ndarray:
    """Turned about z."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1.0]])


def path(points: np.ndarray, *end: float) -> np.ndarray:
    """Positions at every step of points whose body moves from where it is to ``pose(*end)`` about it."""
    return np.stack([transform(pose(*(t * np.array(end))), points) for t in TIME], axis=1)


def test_two_bodies_are_told_apart_and_their_motion_is_exact():
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (20, 3))
    one, other = path(points[:12], 0.5, 0.1, 0, 0.05), path(points[12:], -0.4, 0, 0.1, 0)
    valid = np.ones((20, STEPS), bool)
    valid[:6, 13:] = False
    first, second = find_bodies(np.concatenate([one, other]), valid, reach=0.2, stretch=0.008, agree=0.006)
    assert set(first.members) == set(range(12)) and set(second.members) == set(range(12, 20))
    assert first.known.all() and second.known.all()
    anywhere = np.array([[0.3, -0.2, 0.1]])
    np.testing.assert_allclose(first.carry(anywhere, np.array([0])), path(anywhere, 0.5, 0.1, 0, 0.05), atol=1e-9)
    # A point that joins the body at step 8 goes through the same motions from there.
    joined = first.carry(path(anywhere, 0.5, 0.1, 0, 0.05)[:, 8], np.array([8]))
    np.testing.assert_allclose(joined[:, 8:], path(anywhere, 0.5, 0.1, 0, 0.05)[:, 8:], atol=1e-9)


def test_points_that_do_not_keep_their_distances_are_no_body():
    rng = np.random.default_rng(1)
    loose = rng.uniform(-0.1, 0.1, (10, 1, 3)) + TIME[None, :, None] * rng.uniform(-0.2, 0.2, (10, 1, 3))
    assert not list(find_bodies(loose, np.ones((10, STEPS), bool), 0.2, 0.008, 0.006))


class PlainCard:
    """A card with a texture of a few grey levels that slides along itself: depth changes at its rim only."""

    def __init__(self, carry: bool):
        still = np.tile(np.eye(4), (STEPS, 1, 1))
        card = np.stack([pose(0, 0.2 * t - 0.1, 0, 0.9) for t in TIME])
        intrinsics = np.array([[170, 0, 96], [0, 170, 72], [0, 0, 1.0]])
        self.world = RigidWorld(intrinsics, (192, 144), still, pose(0, 0, 0, 1.5), card, half_side=0.2)
        depth = self.world.depth().astype(np.float32)
        self.depth, self.edges = DepthMaps(depth, "m", "ray-cast"), depth_edges(depth, 0.05)
        cameras = Cameras(intrinsics, still, self.world.size, False, "given", "given")
        grey = (100 + self.world.frames()[..., 0] / 32).astype(np.uint8)
        self.tester, self.cameras = TrackTester(grey, depth, self.edges, cameras, TrustConfig(carry=carry)), cameras
        keypoints = keypoint_grid(*self.world.size)
        self.exact, self.seen = self.world.tracks(0, keypoints, STEPS - 1)
        self.flow = self.world.flow(0, keypoints, STEPS - 1)
        self.on_card = np.flatnonzero(self.world.on_card(0, keypoints))
        x = keypoints[self.on_card, 0]
        self.inside = self.on_card[(x > x.min() + 12) & (x < x.max() - 12)]

    def wrong_and_kept(self, speed: float) -> tuple[float, float]:
        """Shares of the inner points' labels at the last steps that are off by more than 5 mm, and that are kept, if
        their tracks move at this share of the card's speed.
        """
        uv = self.exact[..., :2].copy()
        start = uv[self.inside, :1]
        uv[self.inside] = start + speed * (uv[self.inside] - start)
        tracks = Tracks2D(0, uv, self.seen.copy())
        flow = self.tester.test(tracks, lift_tracks(tracks, self.depth, self.edges, self.cameras)).flow
        scale = np.array([*self.world.size, 1])
        off = np.abs((flow.uvz - self.flow.uvz) * scale)[self.inside, 8:, 0] > 1
        valid = flow.valid[self.inside, 8:]
        return float((valid & off).mean()), float(valid.mean())


@pytest.mark.parametrize("speed", [0.0, 0.5], ids=["tracks stand still", "tracks lag behind"])
def test_the_rim_of_a_plain_surface_decides_where_its_inner_points_go(speed):
    card = PlainCard(carry=True)
    assert len(card.inside) >= 20
    wrong, kept = card.wrong_and_kept(speed)
    before, _ = PlainCard(carry=False).wrong_and_kept(speed)
    assert before > 0.7 and wrong < 0.3 and kept > 0.9


def shifted(x: np.ndarray, y: np.ndarray = 0 * TIME) -> BodyMotion:
    """A body that moves without turning; metres from where it is at step 0."""
    shift = np.stack([x, y, 0 * TIME], axis=1)
    return BodyMotion(np.arange(4), np.ones(STEPS, bool), np.tile(np.eye(3), (STEPS, 1, 1)), shift)


class RichCard:
    """A card of rich texture that moves to the right before a plain wall; its body's motion is known, metres off.

    Args:
        way: metres that it has moved at every step.
    """

    def __init__(self, off: float = 0.0, way: np.ndarray = 0.2 * TIME):
        still = np.tile(np.eye(4), (STEPS, 1, 1))
        card = np.stack([pose(0, x - 0.1, 0, 0.9) for x in way])
        intrinsics = np.array([[170, 0, 96], [0, 170, 72], [0, 0, 1.0]])
        world = RigidWorld(intrinsics, (192, 144), still, pose(0, 0, 0, 1.5), card, half_side=0.2)
        depth = world.depth().astype(np.float32)
        rows, columns = np.mgrid[:144, :192]
        checks = np.stack([((columns - 170 * x / 0.9) // 3 + rows // 3) % 2 for x in way])
        grey = np.where(depth < 1, 40 + 180 * checks, 100).astype(np.uint8)
        cameras = Cameras(intrinsics, still, world.size, False, "given", "given")
        self.viewer = WindowViewer(grey, depth, cameras, np.arange(STEPS), match=0.01)
        uv = keypoint_grid(*world.size)
        uv = uv[world.on_card(0, uv)]
        self.start = lift(np.column_stack([uv, depth[0][tuple(np.floor(uv).astype(int).T[::-1])]]), intrinsics)
        self.body = shifted(way + off * (TIME > 0))
        self.way, self.uv, self.looks = way, uv, patches(grey, np.zeros(len(uv), int), uv)

    def evidence(self, left: bool, there: bool | np.ndarray, onset: int = 0) -> Evidence:
        """Of the card's points, none of them tracked."""
        count = len(self.uv)
        nothing, all_steps = np.zeros((count, STEPS), bool), (count, STEPS)
        uv = np.broadcast_to(self.uv[:, None], (*all_steps, 2))
        return Evidence(
            start=self.start,
            usable=np.ones(count, bool),
            settled=np.zeros(count, bool),
            still_uv=uv,
            there=np.full(all_steps, there),
            onset=np.full(count, onset),
            left=np.full(count, left),
            gone=np.full(count, left),
            stirs=np.ones(count, bool),
            track_uv=uv,
            track_valid=nothing,
            looks=self.looks,
            beside=np.full((count, 1), -1),
        )

    def accepted(self, left: bool, there: bool) -> float:
        """Share of the card's points that the body is given."""
        claims = Claims(self.evidence(left, there), self.viewer, ClaimConfig())
        given, _ = claims.settle([(self.body, np.arange(len(self.uv)))])
        return sum(len(claimed.point) for claimed in given) / len(self.uv)


def test_rich_texture_may_look_different_half_a_pixel_off():
    pixel = 0.9 / 170
    assert RichCard(0.5 * pixel).accepted(left=True, there=False) > 0.9


def test_a_start_that_is_covered_does_not_show_that_a_point_has_left_it():
    exact = RichCard()
    assert exact.accepted(left=False, there=True) > 0.9
    assert exact.accepted(left=False, there=False) == 0


class TakenCard(RichCard):
    """A card that waits until a hand takes it, is carried to the right, and stays where the hand lets go of it. The
    hand comes and goes at the same speed, and its two fingers close and open on the way.
    """

    TAKEN, LEFT = 6, 12

    def __init__(self):
        steps = np.arange(STEPS)
        super().__init__(way=0.012 * (np.clip(steps, self.TAKEN, self.LEFT) - self.TAKEN))
        reach = 0.012 * (steps - self.TAKEN)
        reach -= reach[0]
        opened = 0.005 * np.maximum(np.maximum(self.TAKEN - steps, steps - self.LEFT), 0)
        opened -= opened[0]
        self.hand = [self.finger(shifted(reach, side * opened), side) for side in (-1, 1)]
        # What is behind shows late that the card has left.
        gone = np.broadcast_to(steps > self.TAKEN, (len(self.uv), STEPS))
        self.known = self.evidence(left=True, there=~gone, onset=self.TAKEN + 3)

    def finger(self, body: BodyMotion, side: float, wide: float = 0.2) -> Carrier:
        """A finger whose surface is beside the card."""
        middle = self.start.mean(axis=0) + np.array([0, side * wide, 0])
        return Carrier(body, np.arange(2), middle, middle[None])


def test_fingers_tell_when_something_is_held():
    card = TakenCard()
    hold = find_hold(card.hand, card.known, card.viewer, reach=0.5)
    assert hold is not None and abs(hold.since - card.TAKEN) <= 1 and abs(hold.until - card.LEFT) <= 1
    still = [card.finger(card.hand[0].body, side) for side in (-1, 1)]
    assert find_hold(still, card.known, card.viewer, 0.5) is None, "nothing moves against anything"
    assert find_hold(card.hand[:1], card.known, card.viewer, 0.5) is None
    crossed = [card.finger(part.body, side, wide=-0.2) for part, side in zip(card.hand, (-1, 1), strict=True)]
    assert find_hold(crossed, card.known, card.viewer, 0.5) is None, "fingers that are apart hold nothing"


def test_what_is_held_waits_moves_with_the_hand_and_stays():
    card = TakenCard()
    given, _ = Claims(card.known, card.viewer, ClaimConfig(reach=0.5)).settle([], card.hand)
    assert sum(len(claimed.point) for claimed in given) > 0.9 * len(card.uv)
    for claimed in given:
        moved = claimed.placed.xyz[..., 0] - claimed.placed.xyz[:, :1, 0]
        np.testing.assert_allclose(moved, np.broadcast_to(card.way, moved.shape), atol=1e-6)
    # One finger alone does not tell when.
    given, _ = Claims(card.known, card.viewer, ClaimConfig(reach=0.5)).settle([], card.hand[:1])
    for claimed in given:
        moved = claimed.placed.xyz[..., 0] - claimed.placed.xyz[:, :1, 0]
        assert (np.abs(moved - card.way).max(axis=1) > 0.005).all()


def test_a_point_that_the_hand_covers_while_it_waits_does_not_come_with_the_hand():
    """Where the hand would bring the point in the meantime, depth is that of the card by chance."""
    card = TakenCard()
    column = np.unique(card.uv[:, 0])[1]
    few = np.abs(card.uv[:, 0] - column) < 3
    depth = card.viewer.depth.copy()
    depth[1 : card.TAKEN] = 0.9
    depth[1 : card.TAKEN, :, int(column) - 3 : int(column) + 4] = 0.5
    viewer = WindowViewer(card.viewer.grey, depth, card.viewer.cameras, card.viewer.frames, card.viewer.match)
    covered = np.isin(np.arange(STEPS), np.arange(1, card.TAKEN))
    known = dataclasses.replace(card.known, usable=few, there=card.known.there & ~covered)
    claims = Claims(known, viewer, ClaimConfig(reach=0.5))
    given, _ = claims.settle([], card.hand)
    assert few.sum() >= 4 and sum(len(claimed.point) for claimed in given) == few.sum()
    for claimed in given:
        moved = claimed.placed.xyz[..., 0] - claimed.placed.xyz[:, :1, 0]
        assert np.abs(moved - card.way).max() < 0.04, "three steps at most, not six"


def test_a_point_that_surely_left_goes_with_what_holds_it_however_it_looks():
    card = TakenCard()
    dark = dataclasses.replace(card.known, looks=np.full_like(card.known.looks, 255.0))
    unseen = dataclasses.replace(dark, left=~dark.left, gone=~dark.gone)  # nothing behind was ever seen
    for known in (dark, unseen):
        given, _ = Claims(known, card.viewer, ClaimConfig(reach=0.5, sure=5)).settle([], card.hand)
        assert sum(len(claimed.point) for claimed in given) > 0.9 * len(card.uv)
    stands = dataclasses.replace(unseen, there=np.ones_like(dark.there))
    given, _ = Claims(stands, card.viewer, ClaimConfig(reach=0.5, sure=5)).settle([], card.hand)
    assert not given, "it is seen at its start while the hand moves on"
    found = [(part.body, part.own) for part in card.hand]
    given, _ = Claims(dark, card.viewer, ClaimConfig(reach=0.5, sure=5)).settle(found)
    assert not given, "a body that was found from tracks may be another's"


@pytest.mark.parametrize(
    ("around", "fitted", "known"),
    [
        ([1.0] * 9, "there", "there"),
        ([1.0] * 8 + [1.5], "there", "there"),
        ([1.5] * 8 + [1.5], "gone", "gone"),
        ([0.5] * 8 + [1.5], "gone", "covered"),
        ([0.5] * 8 + [0.5], "covered", "covered"),
        ([1.0] * 8 + [0.5], "covered", "there"),
        ([np.nan] * 8 + [np.nan], "covered", "covered"),
    ],
)
def test_depth_at_a_place_is_read_with_its_neighbours(around, fitted, known):
    """The last depth is the pixel's own, the point is at 1 m."""
    depth = np.zeros((1, 3, 3), np.float32)
    for value, (down, right) in zip(around, [*NEIGHBOURHOOD, (0, 0)], strict=True):
        depth[0, 1 + down, 1 + right] = value
    place, inside = np.array([[[1.5, 1.5, 1.0]]]), np.ones((1, 1), bool)
    for sure, wanted in ((False, fitted), (True, known)):
        agree, contradicted = shown_at(depth, np.zeros(1, int), place, inside, 0.01, sure)
        found = "there" if agree[0, 0] else "gone" if contradicted[0, 0] else "covered"
        assert found == wanted, sure
