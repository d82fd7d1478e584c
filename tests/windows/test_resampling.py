"""Flow over seconds: exact for constant velocity, the native flow bit for bit where a step is a frame, and honest about
itself.
"""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from fixtures.libero import FAST, Demo, fast_recipe, write_file
from fixtures.triplet import make_triplet, same
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli.build_options import Build, recipe_of
from pipeline.readers.libero import LiberoReader
from pipeline.recipe import WindowConfig
from pipeline.vision.lift import LiftedTracks
from pipeline.vision.poses import poses_between
from pipeline.windows.maker import TripletMaker
from pipeline.windows.resampling import resample, step_times
from schemas.cameras import project
from schemas.episode import EpisodeRef
from schemas.sample_codec import decode_triplet, encode_triplet
from schemas.scene_flow import SceneFlow
from schemas.triplet import Resampling, Triplet

K = np.array([[90.0, 0, 50], [0, 80, 30], [0, 0, 1]])
SIZE = (96, 64)


def positions(start, velocity, seconds):
    """(u, v, z) of points of constant velocity, seen by the pinhole camera at those moments."""
    xyz = start[:, None] + velocity[:, None] * np.asarray(seconds)[None, :, None]
    return project(xyz, K) / [*SIZE, 1]


def tracked(uvz, visible=None, valid=None, edge=None):
    yes = np.ones(uvz.shape[:2], bool)
    visible = yes if visible is None else visible
    valid = visible if valid is None else valid
    return LiftedTracks(
        SceneFlow(np.where(valid[..., None], uvz, 0), visible, valid), ~yes, ~yes if edge is None else edge
    )


def points(rng, count=5):
    return rng.uniform([-0.3, -0.3, 0.6], [0.3, 0.3, 1.5], (count, 3)), rng.uniform(-0.2, 0.2, (count, 3))


@given(
    st.integers(0, 1000),
    st.sampled_from([5.0, 10.0, 15.0, 20.0, 30.0]),
    st.floats(0.2, 2.5),
    st.sampled_from([1, 4, 7, 32]),
)
def test_constant_velocity_resamples_exactly(seed, fps, seconds, horizon):
    start, velocity = points(np.random.default_rng(seed))
    times = step_times(horizon, seconds, fps)
    native = tracked(positions(start, velocity, np.arange(times.reach + 1) / fps))
    made = resample(native, times)
    truth = positions(start, velocity, np.linspace(0, seconds, horizon + 1))
    np.testing.assert_allclose(made.flow.uvz, truth, rtol=0, atol=1e-6 if times.resampled else 1e-9)
    assert made.flow.visible.all() and made.flow.valid.all() and not made.hole.any()


@pytest.mark.parametrize(("fps", "horizon"), [(5, 32), (15, 32), (20, 8), (30, 32), (29.97, 7)])
def test_as_many_seconds_as_the_frames_last_are_the_native_flow(fps, horizon):
    times = step_times(horizon, horizon / fps, fps)
    native = tracked(positions(*points(np.random.default_rng(0)), np.arange(times.reach + 1) / fps))
    assert times.resampled is None and times.reach == horizon and times.per_second == fps
    assert resample(native, times) is native


def test_a_position_between_frames_needs_both_of_them_and_one_at_a_frame_only_that_one():
    times = step_times(4, 0.2, 10)  # frames 0, 0.5, 1, 1.5, 2
    visible = np.array([[True, True, False], [True, False, True], [True, True, True]])
    made = resample(tracked(np.ones((3, 3, 3)), visible), times).flow
    assert made.visible.tolist() == [
        [True, True, True, False, False],
        [True, False, False, False, True],
        [True] * 5,
    ]
    assert (made.valid == made.visible).all() and (made.uvz[~made.valid] == 0).all()


def test_whole_steps_pass_frames_over_bit_for_bit_and_remember_the_edges_between():
    times = step_times(3, 0.9, 10)
    native = tracked(positions(*points(np.random.default_rng(1)), np.arange(10) / 10))
    edge = np.zeros((5, 10), bool)
    edge[0, 4] = edge[1, 6] = edge[2, 0] = edge[3, 7] = True
    made = resample(tracked(native.flow.uvz, edge=edge), times)
    assert times.resampled == Resampling(0.3, "3 steps over 0.9 s from 10 fps, frames passed over")
    assert same(made.flow.uvz, native.flow.uvz[:, ::3])
    assert [np.flatnonzero(row).tolist() for row in made.edge] == [[2], [2], [0], [3], []]


@pytest.mark.parametrize(("remaining", "within"), [(0, 0), (1, 2), (2, 5), (6, 15), (7, 16), (100, 16)])
def test_steps_within_the_episode_are_those_that_its_frames_reach(remaining, within):
    assert step_times(16, 1.28, 5).within(remaining) == within  # a step is 0.4 frames


def test_a_pose_between_two_is_turned_by_its_share_about_the_same_axis():
    def pose(share):
        made = np.eye(4)
        made[:3, :3] = cv2.Rodrigues(np.array([0.3, -0.2, 0.9]) * share)[0]
        made[:3, 3] = np.array([1.0, 2, 3]) * share
        return made

    poses = np.stack([pose(n) for n in range(4)])
    made = poses_between(poses, np.array([0, 0.25, 1, 2.5, 3]))
    np.testing.assert_allclose(made, [pose(s) for s in (0, 0.25, 1, 2.5, 3)], atol=1e-12)
    assert same(made[[0, 2, 4]], poses[[0, 1, 3]])


# In samples


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    path = write_file(tmp_path_factory.mktemp("libero") / "a_demo.hdf5", [Demo(0, 0, 0, 25)])
    (ref,) = (r for r in LiberoReader().list_episodes(path.parent) if isinstance(r, EpisodeRef))
    return LiberoReader().read(ref)


def made(episode, seconds, horizon=8):
    windows = WindowConfig(stride=4, horizon=horizon, grid=6, action_horizon=4, horizon_seconds=seconds)
    return [t for t in TripletMaker(replace(fast_recipe(), windows=windows)).windows(episode) if isinstance(t, Triplet)]


def test_native_seconds_give_the_native_samples_bit_for_bit(episode):
    native, seconds = made(episode, None), made(episode, 8 / episode.fps)
    assert len(native) > 3 and [encode_triplet(t) for t in native] == [encode_triplet(t) for t in seconds]
    assert native[0].resampling == "native" and native[0].step_seconds == 1 / episode.fps


def test_longer_steps_hold_every_other_position_and_say_so(episode):
    wide, native = made(episode, 16 / episode.fps), made(episode, None, 16)
    assert wide[0].resampling == "8 steps over 0.8 s from 20 fps, frames passed over" and wide[0].step_seconds == 0.1
    both = wide[0].flow.valid & native[0].flow.valid[:, ::2]
    assert both.mean() > 0.5 and np.array_equal(wide[0].flow.uvz[both], native[0].flow.uvz[:, ::2][both])
    assert wide[0].fps == episode.fps and np.array_equal(wide[0].actions, native[0].actions)


def test_what_a_sample_says_of_its_steps_comes_back_and_older_samples_are_native():
    triplet = make_triplet(3)
    for resampled in (None, Resampling(0.0625, "32 steps over 2 s from 5 fps, interpolated")):
        members = encode_triplet(replace(triplet, resampled=resampled))
        assert decode_triplet("k", members).resampled == resampled
    assert b'"resampling":"native"' in encode_triplet(triplet)["json"]


def test_steps_and_seconds_exclude_each_other_and_old_words_still_hold():
    assert recipe_of(Build("libero", horizon_steps=8)).windows.horizon == 8
    windows = recipe_of(Build("libero", horizon_seconds=1.6)).windows
    assert (windows.horizon, windows.horizon_seconds) == (32, 1.6)
    assert "--horizon" in FAST, "the other tests' commands say it the old way"
    with pytest.raises(ValueError, match="--horizon-steps 8 and --horizon-seconds 2 exclude each other"):
        recipe_of(Build("libero", horizon_steps=8, horizon_seconds=2))
    with pytest.raises(ValueError, match="above 0"):
        WindowConfig(horizon_seconds=0)
