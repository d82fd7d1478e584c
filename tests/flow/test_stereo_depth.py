"""Stereo depth against the exactly known depth of a world seen by two eyes."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.depth import episode_of, view_of
from readers import test_droid_raw as droid

from pipeline.depth import stereo
from pipeline.episodes import spill
from pipeline.evaluation.synthetic_scene import moving_card
from schemas.episode import BadEpisode, StereoPair

BASELINE = 0.12


@pytest.fixture(scope="module")
def world():
    return moving_card(frames=3, size=(320, 180))


def seen_from_aside(world):
    """The world as the right eye sees it, a baseline along the camera's x axis."""
    aside = np.eye(4)
    aside[0, 3] = BASELINE
    return replace(world, world_from_camera=world.world_from_camera @ aside)


@pytest.fixture(scope="module")
def eyes(world):
    """The two eyes' frames."""
    return world.frames(), seen_from_aside(world).frames()


def view(world, left, right, baseline=BASELINE):
    return replace(view_of(left, intrinsics=world.intrinsics), stereo=StereoPair(lambda: right, baseline))


def estimate(seen, **options):
    return stereo.build(stereo.Config(**options)).estimate(episode_of(seen), seen)


def test_depth_is_the_worlds_in_metres(world, eyes):
    found = estimate(view(world, *eyes))
    exact = world.depth()
    assert found.unit == "m" and found.alignment is None
    known = np.isfinite(found.depth)
    error = np.abs(found.depth / exact - 1)[known]
    assert known.mean() > 0.8
    assert np.median(error) < 0.01
    assert np.quantile(error, 0.95) < 0.03


def test_depth_of_a_long_recording_is_the_same_and_each_frame_is_read_once(world, eyes, monkeypatch):
    monkeypatch.setattr(spill, "AT_A_TIME", 2)
    read = {"left": [], "right": []}

    def some(name, frames):
        return lambda numbers: read[name].extend(numbers.tolist()) or frames[numbers]

    short = view(world, *eyes)
    pair = replace(short.stereo, read_some=some("right", eyes[1]))
    one_by_one = replace(short, read_some=some("left", eyes[0]), stereo=pair)
    long = stereo.build(stereo.Config()).estimate(episode_of(one_by_one), one_by_one, long=True)
    np.testing.assert_array_equal(long.depth, estimate(short).depth)
    assert read == {"left": [0, 1, 2], "right": [0, 1, 2]}


def test_places_that_one_eye_does_not_see_get_no_depth(world, eyes):
    """The wall left of the card, as far as the card hides it from the right eye."""
    depth = estimate(view(world, *eyes)).depth
    exact = world.depth()
    in_right = np.arange(world.size[0]) + 0.5 - world.intrinsics[0, 0] * BASELINE / exact
    # What lies right of a place in the left eye lies left of it in the right one only if it is nearer, and hides it.
    leftmost = np.minimum.accumulate(in_right[..., ::-1], axis=-1)[..., ::-1]
    hidden = (in_right > leftmost + 2) | (in_right < 0)
    assert hidden.sum() > 500
    wrong = np.isfinite(depth[hidden]) & (np.abs(depth[hidden] / exact[hidden] - 1) > 0.1)
    assert np.isnan(depth[hidden]).mean() > 0.6 and wrong.mean() < 0.25


def test_a_raw_droid_recording_gives_metres(tmp_path):
    """Through DROID's own files, whose pictures are compressed: a world seen with the recording's own intrinsics and
    baseline.
    """
    eyes_at = {
        "11_left": droid.poses_of(droid.FACING),
        "11_right": droid.poses_of(droid.beside(droid.FACING, -BASELINE)),
    }
    folder = droid.write(tmp_path, extrinsics=eyes_at, stereo=("11",))
    droid.calibrate(tmp_path)
    intrinsics = droid.read(tmp_path).views[droid.CAMERAS[0]].intrinsics
    world = replace(moving_card(frames=droid.T, size=droid.SIZE), intrinsics=intrinsics)
    left, right = world.frames(), seen_from_aside(world).frames()
    droid.write_video(folder / "recordings/MP4/11.mp4", left)
    droid.write_video(folder / "recordings/MP4/11-stereo.mp4", np.concatenate([left, right], axis=2))
    episode = droid.read(tmp_path)
    depth = stereo.build(stereo.Config()).estimate(episode, episode.views[droid.CAMERAS[0]]).depth
    known = np.isfinite(depth)
    off = np.abs(depth / world.depth() - 1)[known]
    # A fifth of a pixel: the pictures are 160 wide, and the wall's disparity is 5 px.
    assert known.mean() > 0.8 and np.median(off) < 0.05


def test_twice_the_baseline_would_be_twice_the_depth(world, eyes):
    once = estimate(view(world, *eyes), farthest=100.0).depth
    twice = estimate(view(world, *eyes, baseline=2 * BASELINE), nearest=0.5, farthest=200.0).depth
    both = np.isfinite(once) & np.isfinite(twice)
    assert both.mean() > 0.5
    np.testing.assert_allclose(twice[both], 2 * once[both], rtol=1e-5)


def test_eyes_that_do_not_go_together_are_refused(world, eyes):
    left, right = eyes
    noise = np.random.default_rng(0).integers(0, 256, right.shape, dtype=np.uint8)
    for wrong, says in (
        (noise, "are the eyes of one moment"),
        (right[:2], r"the right one \(2,"),
        (right[:, :-1], "the right one"),
    ):
        with pytest.raises(BadEpisode, match=says) as error:
            estimate(view(world, left, wrong))
        assert error.value.code == "bad_stereo"
    with pytest.raises(BadEpisode, match="when they are swapped"):
        estimate(view(world, right, left))
    with pytest.raises(BadEpisode, match="baseline must be above 0"):
        estimate(view(world, left, right, baseline=0.0))


def test_a_camera_with_one_eye_or_without_intrinsics_is_refused_by_name(world, eyes):
    for seen, code in (
        (view_of(eyes[0], intrinsics=world.intrinsics), "no_stereo"),
        (replace(view(world, *eyes), intrinsics=None), "no_intrinsics"),
    ):
        with pytest.raises(BadEpisode) as error:
            estimate(seen)
        assert error.value.code == code


def test_a_field_of_view_stands_in_for_intrinsics(world, eyes):
    known = view(world, *eyes)
    degrees = 2 * np.degrees(np.arctan(world.size[1] / 2 / world.intrinsics[1, 1]))
    given = estimate(replace(known, intrinsics=None), fov_y=float(degrees)).depth
    np.testing.assert_allclose(given, estimate(known).depth, rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{"block": 4}, {"nearest": 0.0}, {"nearest": 12.0}, {"disagree": -1}, {"fov_y": 200.0}]
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="stereo"):
        stereo.Config(**options)
