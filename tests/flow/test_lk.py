"""The lk tracker on the rigid world and on real frames with exact flow."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.readers import libero
from pipeline.trackers import lk
from schemas.scene_flow import keypoint_grid

DATA = Path(__file__).parents[2] / "data" / "libero"


@pytest.fixture(scope="module")
def world() -> RigidWorld:
    return moving_card(frames=20, size=(192, 144))


def test_tracks_of_the_rigid_world_stay_on_their_points(world):
    keypoints = keypoint_grid(*world.size)
    (tracks,) = lk.build(lk.Config()).track(world.frames(), [0], keypoints, 16)
    exact, seen = world.tracks(0, keypoints, 16)
    kept = tracks.visible & seen
    error = np.linalg.norm(tracks.uv - exact[..., :2], axis=-1)[kept]
    assert kept[:, 1:].sum() / seen[:, 1:].sum() > 0.85
    assert np.median(error) < 0.1
    assert np.mean(error < 2) > 0.9


def test_a_still_clip_is_followed_exactly_and_without_matching(world, monkeypatch):
    def refuse(*_):
        raise AssertionError("a point that plainly does not move was paid for")

    monkeypatch.setattr(lk._Images, "match", refuse)
    frames = np.repeat(world.frames()[:1], 6, axis=0)
    keypoints = keypoint_grid(*world.size)
    for track in lk.build(lk.Config()).track(frames, [0, 2], keypoints, 3):
        np.testing.assert_array_equal(track.uv, np.repeat(keypoints[:, None], 4, axis=1))
        assert track.visible.all()


def test_all_reference_frames_are_followed_in_one_call_a_frame(world, monkeypatch):
    calls, match = [], lk._Images.match
    monkeypatch.setattr(lk._Images, "match", lambda *a: calls.append(len(a[1])) or match(*a))
    lk.build(lk.Config()).track(world.frames(), [0, 5, 10], keypoint_grid(*world.size), 32)
    assert len(calls) <= len(world) - 1


def test_steps_after_the_end_and_points_that_leave_are_not_visible(world):
    keypoints = keypoint_grid(*world.size)
    (late,) = lk.build(lk.Config()).track(world.frames(), [15], keypoints, 16)
    assert late.visible[:, :5].any(axis=0).all() and not late.visible[:, 5:].any()
    exact, _ = world.tracks(0, keypoints, 19)
    (tracks,) = lk.build(lk.Config()).track(world.frames(), [0], keypoints, 19)
    outside = ((exact[..., :2] < -2) | (exact[..., :2] > np.array(world.size) + 2)).any(-1)
    assert outside.sum() > 50
    assert tracks.visible[outside].mean() < 0.05


def test_a_covered_still_point_is_lost_and_found_again(world):
    clear = world.frames()[0]
    covered = clear.copy()
    covered[40:80, 40:80] = np.random.default_rng(0).integers(0, 255, (40, 40, 3))
    frames = np.stack([clear, clear, covered, covered, clear, clear])
    (track,) = lk.build(lk.Config()).track(frames, [0], np.array([[60.5, 60.5], [140.5, 60.5]]), 5)
    assert not track.visible[0, 2] and track.visible[0, 4] and track.visible[1].all()
    np.testing.assert_array_equal(track.uv[0, 4], [60.5, 60.5])


@pytest.mark.parametrize(
    "option", [{"window": 4}, {"window": 1}, {"forward_backward": 0}, {"levels": -1}, {"still_window": 2}]
)
def test_nonsense_is_refused_with_the_field_named(option):
    with pytest.raises(ValueError, match=f"lk.{next(iter(option))}"):
        lk.Config(**option)


def test_real_libero_frames_against_the_simulators_exact_tracks():
    reader = libero.build(libero.Config())
    ref = next(iter(reader.list_episodes(DATA)))
    truth = np.load(next(DATA.rglob("*_demo_0_gt.npz")))
    exact, seen = truth["track"].transpose(0, 2, 1, 3), truth["vis"].transpose(0, 2, 1)
    frames = reader.read(ref).views["agentview"].frames
    tracks = lk.build(lk.Config()).track(frames, [int(r) for r in truth["ref"]], truth["uv0"], 32)
    visible, error = np.stack([t.visible for t in tracks]), np.stack([t.uv for t in tracks])
    error = np.linalg.norm(error - exact[..., :2], axis=-1)
    moving = np.ptp(exact[..., :2], axis=2).max(-1) > 2  # px
    kept = (visible & seen)[:, :, 1:]
    assert moving.sum() > 40
    assert kept[moving].sum() / seen[:, :, 1:][moving].sum() > 0.8
    assert np.median(error[:, :, 1:][moving][kept[moving]]) < 0.6
    assert kept[~moving].sum() / seen[:, :, 1:][~moving].sum() > 0.97
    assert np.mean(error[:, :, 1:][~moving][kept[~moving]] < 1) > 0.97


def test_no_level_is_built_on_which_the_window_would_be_most_of_the_picture():
    images = lk._Images(np.zeros((1, 256, 320, 3), np.uint8), lk.Config())
    assert images.how.levels == 2  # 64 px are three windows of 17, 32 are not
    assert lk._Images(np.zeros((1, 32, 32, 3), np.uint8), lk.Config()).how.levels == 0
    assert lk._Images(np.zeros((1, 480, 640, 3), np.uint8), lk.Config()).how.levels == 3
    assert lk._Images(np.zeros((1, 480, 640, 3), np.uint8), lk.Config(levels=1)).how.levels == 1
