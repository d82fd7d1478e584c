"""Laws of testing tracks: what is true survives, what is dragged, covered or slid off does not."""

from dataclasses import fields

import numpy as np
import pytest

from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.flow_sources import tracked
from pipeline.flow_sources._track_checks import TrackTester, TrustConfig
from pipeline.vision.lift import LiftedTracks, depth_edges, lift_tracks
from pipeline.vision.patches import grey_clip
from schemas.cameras import Cameras
from schemas.perception import DepthMaps, Tracks2D
from schemas.scene_flow import keypoint_grid

HORIZON = 24
WAITS = 10
"""Steps for which the small card stands still."""


class Bench:
    """A rigid world with exact tracks, to be spoilt."""

    def __init__(self, camera_moves: bool):
        self.world: RigidWorld = moving_card(frames=30, size=(192, 144), camera_moves=camera_moves)
        frames, depth = self.world.frames(), self.world.depth().astype(np.float32)
        self.depth, self.edges = DepthMaps(depth, "m", "ray-cast"), depth_edges(depth, 0.05)
        self.cameras = Cameras(
            self.world.intrinsics, self.world.world_from_camera, self.world.size, camera_moves, "given", "given"
        )
        self.tester = TrackTester(grey_clip(frames), depth, self.edges, self.cameras, TrustConfig())
        self.keypoints = keypoint_grid(*self.world.size)
        self.exact, self.seen = self.world.tracks(0, self.keypoints, HORIZON)
        self.flow = self.world.flow(0, self.keypoints, HORIZON)
        self.on_card = np.ptp(self.flow.uvz[..., 2], axis=1) > 0.01

    def tested(self, uv: np.ndarray, visible: np.ndarray) -> tuple[LiftedTracks, LiftedTracks]:
        """Before and after."""
        tracks = Tracks2D(0, uv, visible)
        lifted = lift_tracks(tracks, self.depth, self.edges, self.cameras)
        return lifted, self.tester.test(tracks, lifted)


def moved_card(half_side: float, positions: np.ndarray) -> RigidWorld:
    """A card that faces a still camera, at the given positions."""
    card = np.tile(np.eye(4), (len(positions), 1, 1))
    card[:, :3, 3] = positions
    wall = np.eye(4)
    wall[2, 3] = 1.5
    intrinsics = np.array([[170, 0, 96], [0, 170, 72], [0, 0, 1.0]])
    return RigidWorld(intrinsics, (192, 144), np.tile(np.eye(4), (len(card), 1, 1)), wall, card, half_side)


@pytest.fixture(scope="module", params=[False, True], ids=["camera stands", "camera moves"])
def bench(request) -> Bench:
    return Bench(request.param)


@pytest.fixture(scope="module")
def still() -> Bench:
    return Bench(False)


def test_exact_tracks_survive_unchanged(bench):
    before, after = bench.tested(bench.exact[..., :2].copy(), bench.seen.copy())
    assert after.flow.valid[before.flow.valid].mean() > 0.98
    assert after.flow.visible[bench.seen].mean() > 0.99
    both = before.flow.valid & after.flow.valid
    np.testing.assert_allclose(after.flow.uvz[both], before.flow.uvz[both], atol=2e-3)


def test_a_still_point_led_away_by_the_card_is_put_back_or_taken_out(still):
    """Every point of the wall that the card comes near is dragged along at the card's speed."""
    uv, visible = still.exact[..., :2].copy(), still.seen.copy()
    crossed = np.flatnonzero(~still.on_card & still.seen[:, 0] & ~still.seen.all(axis=1) & still.seen[:, -1])
    assert len(crossed) > 5
    for point in crossed:
        since = np.argmin(visible[point])
        uv[point, since:, 0] += 3.0 * np.arange(1, HORIZON + 2 - since)
    visible[crossed] = (uv[crossed] < still.world.size).all(axis=-1)
    _, after = still.tested(uv, visible)
    wrong = after.flow.valid[crossed] & (np.abs(after.flow.uvz - still.flow.uvz)[crossed].max(-1) > 0.005)
    assert wrong.mean() < 0.01
    assert after.flow.valid[crossed, -1].mean() > 0.8


def test_a_covered_point_is_not_visible_whatever_the_tracker_says(still):
    everywhere = np.ones_like(still.seen)
    _, after = still.tested(still.exact[..., :2].copy(), everywhere)
    hidden = ~still.seen & ~still.on_card[:, None]
    assert hidden.sum() > 100
    assert after.flow.visible[hidden].mean() < 0.03


def test_a_moving_point_that_slides_off_onto_the_wall_is_taken_out_or_put_back(still):
    """60 px away from the card: on the wall, 60 cm behind."""
    uv, visible = still.exact[..., :2].copy(), still.seen.copy()
    slid = np.flatnonzero(still.on_card & still.seen.all(axis=1))[::4]
    assert len(slid) > 3
    uv[slid, 12:] -= [60.0, 0.0]
    before, after = still.tested(uv, visible)
    assert before.flow.valid[slid, 12:].mean() > 0.9
    off = np.abs(after.flow.uvz - still.flow.uvz)[slid, 12:].max(axis=-1) > 0.005
    assert (after.flow.valid[slid, 12:] & off).mean() < 0.01


def test_unknown_depth_tests_nothing(still):
    nothing = np.full_like(still.depth.depth, np.nan)
    tester = TrackTester(still.tester.grey, nothing, np.zeros_like(still.edges), still.cameras, TrustConfig())
    tracks = Tracks2D(0, still.exact[..., :2].copy(), still.seen.copy())
    lifted = lift_tracks(tracks, DepthMaps(nothing, "m", "none"), still.edges, still.cameras)
    after = tester.test(tracks, lifted)
    np.testing.assert_array_equal(after.flow.visible, lifted.flow.visible)
    assert not after.flow.valid.any() and (after.hole == lifted.hole).all()


def test_nonsense_is_refused_with_the_field_named():
    with pytest.raises(ValueError, match="stretch must be above 0"):
        tracked.Config(stretch=0.0)


def test_moving_points_that_were_lost_come_back_where_the_card_carries_them(bench):
    """Every other point of the card is lost from step 5 on; the rest is tracked exactly."""
    uv, visible = bench.exact[..., :2].copy(), bench.seen.copy()
    lost = np.flatnonzero(bench.on_card)[::2]
    visible[lost, 5:] = False
    _, after = bench.tested(uv, visible)
    seen = bench.seen[lost, 5:]
    assert seen.sum() > 100
    back = after.flow.valid[lost, 5:] & seen
    assert back.sum() / seen.sum() > 0.8
    assert not (after.flow.valid[lost, 5:] & ~seen).sum() > 0.02 * seen.sum()
    error = np.abs(after.flow.uvz - bench.flow.uvz)[lost, 5:][back]
    assert np.percentile(error.max(axis=-1), 95) < 0.003
    assert after.carried is not None
    np.testing.assert_array_equal(after.carried[lost, 5:][back], True)
    assert not after.carried[~bench.on_card].any()


def test_tolerance_scales_the_bounds_on_motion_and_nothing_else(still):
    plain, loose = TrustConfig(), TrustConfig(tolerance=2).bounds
    scaled = {"stretch", "agree", "astray", "match"}
    for name in (f.name for f in fields(TrustConfig) if f.name not in ("tolerance", "depth_noise")):
        assert getattr(loose, name) == getattr(plain, name) * (2 if name in scaled else 1)
    assert plain.bounds == plain
    with pytest.raises(ValueError, match="tolerance must be above 0"):
        TrustConfig(tolerance=0)

    def kept(**options: float) -> np.ndarray:
        config = TrustConfig(carry=False, **options)
        tester = TrackTester(still.tester.grey, still.depth.depth, still.edges, still.cameras, config)
        wobbling = still.exact[..., :2] + np.random.default_rng(0).normal(0, 1.5, still.exact[..., :2].shape)
        tracks = Tracks2D(0, wobbling, still.seen.copy())
        return tester.test(tracks, lift_tracks(tracks, still.depth, still.edges, still.cameras)).flow.valid[
            still.on_card
        ]

    strict, usual, lax = (np.count_nonzero(kept(tolerance=factor)) for factor in (0.25, 1, 4))
    assert strict < usual < lax
    np.testing.assert_array_equal(kept(tolerance=3), kept(stretch=0.024, agree=0.018, astray=0.03, match=0.03))


def test_without_carry_nothing_is_put_anywhere(still):
    visible = still.seen.copy()
    visible[still.on_card, 5:] = False
    config = TrustConfig(carry=False)
    tester = TrackTester(still.tester.grey, still.depth.depth, still.edges, still.cameras, config)
    tracks = Tracks2D(0, still.exact[..., :2].copy(), visible)
    after = tester.test(tracks, lift_tracks(tracks, still.depth, still.edges, still.cameras))
    assert not after.flow.valid[still.on_card, 5:].any()


def test_an_object_that_waits_keeps_its_labels_beside_one_that_moves():
    """A small card sets off late, beside a large one: its nearest moving points do not keep their distances to it."""
    time = np.arange(HORIZON + 1)
    large = moved_card(0.12, np.stack([-0.1 - 0.006 * time, 0 * time, 0.9 + 0 * time], axis=1))
    late = np.maximum(time - WAITS, 0)
    small = moved_card(0.04, np.stack([0.075 + 0.006 * late, 0 * time, 0.9 + 0 * time], axis=1))
    one, other = (w.depth().astype(np.float32) for w in (large, small))
    depth = np.minimum(one, other)
    pictures = np.where(other < one, grey_clip(small.frames()), grey_clip(large.frames()))
    keypoints = keypoint_grid(*large.size)
    on_small = small.on_card(0, keypoints)
    tracks, seen = large.tracks(0, keypoints, HORIZON)
    tracks[on_small], seen[on_small] = (of[on_small] for of in small.tracks(0, keypoints, HORIZON))
    edges = depth_edges(depth, 0.05)
    cameras = Cameras(large.intrinsics, large.world_from_camera, large.size, False, "given", "given")
    tester = TrackTester(pictures, depth, edges, cameras, TrustConfig())
    found = Tracks2D(0, tracks[..., :2], seen)
    after = tester.test(found, lift_tracks(found, DepthMaps(depth, "m", "ray-cast"), edges, cameras)).flow
    assert 2 <= np.count_nonzero(on_small) <= 6
    assert after.valid[on_small, : WAITS + 1].mean() > 0.95
    exact = small.flow(0, keypoints, HORIZON).uvz[on_small]
    wrong = after.valid[on_small] & (np.abs(after.uvz[on_small] - exact).max(axis=-1) > 0.005)
    assert not wrong.any()
