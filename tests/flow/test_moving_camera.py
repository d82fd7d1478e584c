"""Under a moving camera, what stands still is found where poses and depth put it, and what rides on the camera is
carried with it."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.flow_sources._moving_camera import MovingCameraTester
from pipeline.flow_sources._track_checks import TrustConfig
from pipeline.vision.lift import LiftedTracks, depth_edges, lift_tracks
from pipeline.vision.patches import grey_clip
from schemas.cameras import Cameras
from schemas.perception import DepthMaps, Tracks2D
from schemas.scene_flow import keypoint_grid

HORIZON = 20
WORLD = moving_card(frames=22, size=(128, 96), camera_moves=True)


def ridden_world() -> RigidWorld:
    """The card rides on the camera, as a gripper does on a wrist camera."""
    grip = np.eye(4)
    grip[:3, 3] = [0.0, 0.1, 0.4]
    return replace(WORLD, world_from_card=WORLD.world_from_camera @ grip, half_side=0.08)


class Bench:
    """A world whose tracks are lost in some frames and places."""

    def __init__(self, world: RigidWorld, grey: np.ndarray | None = None):
        self.world, self.keypoints = world, keypoint_grid(*world.size)
        depth = world.depth().astype(np.float32)
        self.depth, self.edges = DepthMaps(depth, "m", "ray-cast"), depth_edges(depth, 0.05)
        self.cameras = Cameras(world.intrinsics, world.world_from_camera, world.size, True, "given", "given")
        pictures = grey_clip(world.frames()) if grey is None else grey
        self.tester = MovingCameraTester(pictures, depth, self.edges, self.cameras, TrustConfig())
        self.exact, self.seen = world.tracks(0, self.keypoints, HORIZON)
        self.flow = world.flow(0, self.keypoints, HORIZON)
        self.on_card = depth[0][tuple(np.floor(self.keypoints[:, ::-1]).astype(int).T)] < 0.6

    def tested(self, lost: np.ndarray) -> LiftedTracks:
        visible = self.seen.copy()
        visible[lost, 1:] = False
        tracks = Tracks2D(0, self.exact[..., :2].copy(), visible)
        return self.tester.test(tracks, lift_tracks(tracks, self.depth, self.edges, self.cameras))

    def off(self, found: LiftedTracks) -> np.ndarray:
        return np.abs(found.flow.uvz - self.flow.uvz).max(axis=-1)


@pytest.fixture(scope="module")
def ridden() -> Bench:
    return Bench(ridden_world())


def test_still_points_that_the_tracker_loses_are_found_where_the_camera_must_see_them(ridden):
    still = np.flatnonzero(~ridden.on_card)
    found = ridden.tested(still)
    seen = ridden.seen[still, 1:]
    assert seen.sum() > 2000
    assert found.flow.valid[still, 1:][seen].mean() > 0.95
    assert (ridden.off(found)[still, 1:][seen & found.flow.valid[still, 1:]] < 1e-6).all()


def test_what_rides_on_the_camera_is_carried_with_it_though_every_track_of_it_is_lost(ridden):
    riders = np.flatnonzero(ridden.on_card)
    assert len(riders) > 20
    found = ridden.tested(riders)
    assert found.flow.valid[riders, 1:].mean() > 0.7
    assert ridden.off(found)[riders][found.flow.valid[riders]].max() < 1e-3
    moved = np.abs(ridden.flow.uvz[riders, -1] - ridden.flow.uvz[riders, 0]).max(axis=-1)
    assert moved.min() > 0.02, "in the world it moves"


def test_a_bare_gripper_is_carried_by_what_its_rim_shows():
    """No texture at all on the card: that a still surface would have left the picture is the evidence."""
    world = ridden_world()
    grey = grey_clip(world.frames())
    grey[world.depth() < 0.6] = 60
    bench = Bench(world, grey)
    found = bench.tested(np.flatnonzero(bench.on_card))
    assert found.flow.valid[bench.on_card, 1:].mean() > 0.7
    wrong = found.flow.valid & (bench.off(found) > 0.005) & bench.seen
    assert wrong.mean() < 0.002


def test_a_bare_wall_does_not_ride():
    """Everything looks the same everywhere; depth alone says that the wall stands."""
    world = ridden_world()
    bench = Bench(world, np.full((len(world), 96, 128), 90, np.uint8))
    found = bench.tested(np.flatnonzero(~bench.on_card))
    wall = ~bench.on_card[:, None] & found.flow.valid & bench.seen
    assert wall[:, 1:].mean() > 0.3
    assert (bench.off(found)[wall] > 0.005).mean() < 0.02
