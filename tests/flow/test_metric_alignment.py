"""Estimated depth brought to metres: exact where the anchors are, robust where some of them lie, refused where they say
nothing.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.depth import episode_of, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.depth import recorded
from pipeline.depth._metric_alignment import CannotAlign, align, fit_line, recorded_anchors
from pipeline.depth._monocular import EstimatedDepth, EstimatorConfig
from pipeline.depth._temporal import steady
from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from schemas.cameras import invert_pose
from schemas.episode import BadEpisode, EpisodeRef, RecordedDepth
from schemas.plugins import PluginChoice, load_plugin

HEIGHT = 0.8
"""Metres of the table above the world's z = 0."""


def table_world(camera_moves: bool = True) -> RigidWorld:
    """The rigid world turned so that its wall is a table: the plane z = 0.8 m of the world."""
    world = moving_card(frames=24, size=(80, 60), camera_moves=camera_moves)
    turn = np.diag([1.0, -1, -1, 1]) @ invert_pose(world.world_from_wall)  # the camera looks down on it
    turn[2, 3] += HEIGHT
    poses = {name: turn @ getattr(world, name) for name in ("world_from_camera", "world_from_wall", "world_from_card")}
    return replace(world, **poses)


WORLD = table_world()
DEPTH = WORLD.depth().astype(np.float32)
FRAMES = WORLD.frames()


class Distorted:
    """A model that sees the world's depth exactly,
    up to a scale and a shift of its inverse that may differ by frame.
    """

    name = "the distorted truth"

    def __init__(self, depth=DEPTH, scale=7.0, shift=-0.2, metric=False):
        self.depth, self.scale, self.shift, self.metric = depth, scale, shift, metric
        self.asked = 0

    def inverse_depth(self, frames):
        """Of the frames that follow on those asked for before; from the beginning after the last."""
        first, self.asked = self.asked % len(self.depth), self.asked + len(frames)
        whole = ((1 / self.depth.astype(np.float64) - self.shift) / self.scale).astype(np.float32)
        return whole[first : first + len(frames)]


def seen(world=WORLD, depth=None, frames=FRAMES, pose=True, fixed=False):
    recorded = None if depth is None else RecordedDepth(lambda: depth, "m", "test")
    view = view_of(frames, intrinsics=world.intrinsics, fixed=fixed, depth=recorded)
    view = replace(view, world_from_camera=world.world_from_camera) if pose else view
    tool = world.world_from_card[:, :3, 3]
    return episode_of(view, tool), view


def estimate(episode, view, model=None, **options):
    return EstimatedDepth(EstimatorConfig(device="cpu", **options), model or Distorted()).estimate(episode, view)


def sparse(share, wrong=0.0, seed=0):
    """Recorded depth at a share of the pixels, some of it wrong."""
    rng = np.random.default_rng(seed)
    depth = np.where(rng.random(DEPTH.shape) < share, DEPTH, 0)
    lies = rng.random(DEPTH.shape) < wrong
    return np.where(lies & (depth > 0), rng.uniform(0.3, 3, DEPTH.shape), depth).astype(np.float32)


@settings(max_examples=10)
@given(st.floats(0.05, 50), st.floats(-0.3, 0.3))
def test_recorded_depth_gives_back_scale_and_shift(scale, shift):
    episode, view = seen(depth=sparse(0.1))
    depth = estimate(episode, view, Distorted(scale=scale, shift=shift))
    assert depth.unit == "m" and depth.alignment is not None and depth.alignment.method == "recorded"
    assert depth.alignment.scale == pytest.approx(scale, rel=1e-3)
    assert depth.alignment.shift == pytest.approx(shift, abs=1e-3)
    np.testing.assert_allclose(depth.depth, DEPTH, rtol=2e-3)


def test_a_hundred_pixels_of_which_a_third_lie_are_enough():
    few = np.zeros_like(DEPTH)
    few[::4] = sparse(0.004, wrong=0.33)[::4]
    assert 50 < np.count_nonzero(few) < 200
    episode, view = seen(depth=few)
    depth = estimate(episode, view)
    assert 0.5 < depth.alignment.agreeing < 0.85 and depth.alignment.anchors == np.count_nonzero(few)
    np.testing.assert_allclose(depth.depth, DEPTH, rtol=0.01)


def test_the_residual_is_the_median_distance_in_metres():
    rng = np.random.default_rng(1)
    noisy = (DEPTH * (1 + rng.normal(0, 0.02, DEPTH.shape))).astype(np.float32)
    alignment = estimate(*seen(depth=noisy)).alignment
    expected = np.median(np.abs(noisy - DEPTH))
    assert alignment.residual == pytest.approx(expected, rel=0.1) and alignment.residual_unit == "m"


@pytest.mark.parametrize("given_height", [HEIGHT, None])
def test_the_table_aligns_though_things_stand_on_it(given_height):
    """The card hides a part of the table; of the rest every pixel must agree. A world whose z = 0 is the table needs no
    height.
    """
    world = WORLD
    if given_height is None:
        lower = np.eye(4)
        lower[2, 3] = -HEIGHT
        world = replace(world, world_from_camera=lower @ world.world_from_camera)
    episode, view = seen(world)
    depth = estimate(episode, view, align="plane", table_height=given_height)
    assert depth.alignment.method == "plane" and 0.5 < depth.alignment.agreeing < 0.99
    np.testing.assert_allclose(depth.depth, DEPTH, rtol=2e-3)


def test_a_table_at_the_wrong_height_is_off_in_proportion():
    """The camera's height above the table is the only length that the plane tells."""
    depth = estimate(*seen(), align="plane", table_height=HEIGHT - 0.1)
    camera = WORLD.world_from_camera[0, 2, 3]
    assert np.median(depth.depth / DEPTH) == pytest.approx((camera - HEIGHT + 0.1) / (camera - HEIGHT), rel=0.01)


def test_the_robots_tool_aligns():
    """The tool is at the middle of the card, which comes nearer by 0.2 m."""
    depth = estimate(*seen(), align="robot")
    assert depth.alignment.method == "robot" and depth.alignment.anchors == len(WORLD)
    np.testing.assert_allclose(depth.depth, DEPTH, rtol=0.01)


def test_moments_at_which_something_hides_the_tool_have_no_say():
    distorted = Distorted()
    hidden = DEPTH.copy()
    hidden[5:11] = 0.4
    depth = estimate(*seen(), Distorted(hidden), align="robot")
    assert depth.alignment.agreeing == pytest.approx(18 / 24)
    assert depth.alignment.scale == pytest.approx(distorted.scale, rel=0.02)


def test_metric_depth_that_is_off_is_scaled_and_not_bent():
    model = Distorted(scale=1.3, shift=0.0, metric=True)
    depth = estimate(*seen(depth=sparse(0.05)), model)
    assert depth.alignment.scale == pytest.approx(1.3, rel=1e-3) and depth.alignment.shift == 0
    np.testing.assert_allclose(depth.depth, DEPTH, rtol=2e-3)
    alone = estimate(*seen(pose=False), Distorted(scale=1.3, shift=0.0, metric=True))
    assert alone.unit == "m" and alone.alignment is None and "not aligned" in alone.source
    np.testing.assert_allclose(alone.depth, 1.3 * DEPTH, rtol=1e-4)


def test_without_anchors_depth_is_relative_with_median_one():
    depth = estimate(*seen(pose=False))
    assert depth.unit == "relative" and depth.alignment is None
    assert "not aligned (recorded: the camera has no recorded depth in metres; robot:" in depth.source
    assert np.nanmedian(depth.depth) == pytest.approx(1, rel=0.05)
    bigger = estimate(*seen(pose=False), Distorted(scale=0.01, shift=-0.2))
    np.testing.assert_allclose(bigger.depth, depth.depth, rtol=1e-4)
    assert estimate(*seen(depth=DEPTH), align="none").unit == "relative"


def test_auto_takes_the_first_that_the_episode_offers():
    everything = seen(depth=DEPTH)
    assert estimate(*everything, table_height=HEIGHT).alignment.method == "recorded"
    assert estimate(*seen(), table_height=HEIGHT).alignment.method == "plane"
    assert estimate(*seen()).alignment.method == "robot"


@pytest.mark.parametrize(
    ("method", "changed", "says"),
    [
        ("recorded", {}, "recorded: the camera has no recorded depth in metres"),
        ("recorded", {"depth": np.zeros_like(DEPTH)}, "recorded: 0 anchors, at least 50"),
        (
            "recorded",
            {"depth": np.random.default_rng(0).uniform(0.3, 3, DEPTH.shape).astype(np.float32)},
            "of the anchors agree",
        ),
        ("recorded", {"depth": np.where(np.abs(DEPTH - 0.8) < 0.02, DEPTH, 0)}, "all anchors lie at nearly one depth"),
        ("plane", {"pose": False}, "plane: the camera's intrinsics or pose are not known"),
        ("robot", {"pose": False}, "robot: the camera's intrinsics or pose are not known"),
    ],
)
def test_what_cannot_be_aligned_says_why(method, changed, says):
    episode, view = seen(**changed)
    with pytest.raises(CannotAlign, match=says):
        align(method, episode, view, Distorted().inverse_depth(FRAMES), True)
    with pytest.raises(BadEpisode, match=says) as error:
        estimate(episode, view, align=method)
    assert error.value.code == "no_depth_anchors" and "align=auto" in error.value.message


def test_other_things_that_do_not_tell_depth():
    inverse = Distorted().inverse_depth(FRAMES)
    episode, view = seen()
    above = WORLD.world_from_camera[:, 2, 3].max() + 1
    with pytest.raises(CannotAlign, match=r"nowhere in view|agree"):
        align("plane", episode, view, inverse, True, above)
    with pytest.raises(CannotAlign, match=r"robot: nothing says where the tool is"):
        align("robot", replace(episode, state_names=("a", "b", "c")), view, inverse, True)
    with pytest.raises(CannotAlign, match=r"robot: the tool is nowhere in view"):
        align("robot", replace(episode, state=episode.state + np.float32(50)), view, inverse, True)
    on_the_camera = replace(
        episode,
        state=WORLD.world_from_camera[:, :3, 3].astype(np.float32)
        + WORLD.world_from_camera[:, :3, 2].astype(np.float32),
    )
    with pytest.raises(CannotAlign, match=r"agree|nearly one depth"):  # a wrist camera's tool stays where it is
        align("robot", on_the_camera, view, inverse, True)


def test_a_table_height_without_a_plane_is_refused():
    with pytest.raises(ValueError, match="table_height is for align=plane or align=auto"):
        EstimatorConfig(align="robot", table_height=0.1)


# The line


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 0.45))
def test_a_line_is_found_whatever_the_rest_says(seed, wrong):
    rng = np.random.default_rng(seed)
    estimate, scale, shift = rng.uniform(0.1, 2, 300), rng.uniform(0.2, 5), rng.uniform(-0.02, 1)
    known = scale * estimate + shift
    lies = rng.random(300) < wrong
    known = np.where(lies, rng.uniform(0.05, 12, 300), known)
    line = fit_line(estimate, known, 0.02 * known, shifted=True)
    assert line.scale == pytest.approx(scale, rel=0.02) and line.shift == pytest.approx(shift, abs=0.02)
    assert line == fit_line(estimate, known, 0.02 * known, shifted=True)


def test_no_line_falls():
    estimate = np.linspace(0.1, 1, 50)
    assert fit_line(estimate, 2 - estimate, np.full(50, 0.01), shifted=True) is None
    assert fit_line(np.ones(50), np.linspace(1, 2, 50), np.full(50, 0.01), shifted=True) is None


# Flicker


def flickering(camera_moves: bool):
    world = table_world(camera_moves)
    depth = world.depth().astype(np.float32)
    rng = np.random.default_rng(5)
    scale = rng.uniform(6, 8, (len(world), 1, 1))
    return world, depth, scale, Distorted(depth, scale=scale, shift=rng.uniform(-0.3, 0, (len(world), 1, 1)))


def test_flicker_is_taken_out_where_the_camera_stands_still():
    world, depth, _, model = flickering(camera_moves=False)
    still = depth == depth[:1]
    parts = {}
    for wanted in (True, False):
        found = estimate(*seen(world, depth, frames=world.frames(), fixed=True), model, steady=wanted).depth
        drift = np.abs(found / found[:1] - 1)
        parts[wanted] = float(np.median(drift[still & (np.arange(len(world)) > 0)[:, None, None]]))
        assert ("steadied" in estimate(*seen(world, depth, fixed=True), model, steady=wanted).source) == wanted
    assert parts[True] < 1e-3 < 0.02 < parts[False]


def noisy(inverse, noise, smooth=2.0, seed=7):
    """With noise that is new in every frame and alike over some pixels."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([cv2.GaussianBlur(rng.normal(size=frame.shape), (0, 0), smooth) for frame in inverse])
    return (inverse * (1 + noise * drawn / drawn.std())).astype(np.float32)


def test_flicker_of_noisy_frames_is_taken_out():
    world, depth, _, model = flickering(camera_moves=False)
    still = (depth == depth[:1]).all(axis=0)
    before = noisy(model.inverse_depth(world.frames()), noise=0.02)
    after = before.copy()
    steady(after, shifted=True)
    levels = [inverse[:, still].mean(axis=1) for inverse in (before, after)]
    spread = [level.std() / level.mean() for level in levels]
    assert spread[1] < 0.01 < 0.03 < spread[0]


def test_noise_does_not_flatten_the_line():
    world, depth, _, _ = flickering(camera_moves=False)
    exact = Distorted(depth)
    inverse = noisy(exact.inverse_depth(world.frames()), noise=0.1)
    _, view = seen(world, depth, fixed=True)
    anchors = recorded_anchors(view, inverse)
    flat = fit_line(anchors.estimate, anchors.known, 0.3 * anchors.known, shifted=True)
    assert anchors.pairs is not None and flat is not None
    found = fit_line(*anchors.pairs, 0.3 * anchors.pairs[1], shifted=True)
    assert flat.scale < 0.9 * exact.scale
    assert found.scale == pytest.approx(exact.scale, rel=0.05)


def test_what_moves_keeps_moving():
    world, depth, _, model = flickering(camera_moves=False)
    found = estimate(*seen(world, depth, frames=world.frames(), fixed=True), model)
    np.testing.assert_allclose(found.depth, depth, rtol=5e-3)


def test_frames_that_show_something_else_are_left_alone():
    world, _, _, model = flickering(camera_moves=False)
    inverse = model.inverse_depth(world.frames())
    inverse[3] = np.random.default_rng(0).uniform(0.05, 0.3, inverse[3].shape)
    inverse[4] = np.nan
    before, after = inverse, inverse.copy()
    steady(after, shifted=True)
    assert (after[3] == before[3]).mean() > 0.95
    assert np.isnan(after[4]).all() and np.isfinite(np.delete(after, 4, axis=0)).all()


def test_a_moving_camera_is_not_steadied():
    depth = estimate(*seen(depth=DEPTH, fixed=False))
    assert "steadied" not in depth.source


# Long episodes


def test_depth_of_a_long_episode_is_the_same_and_each_frame_is_looked_at_once():
    world, depth, _, model = flickering(camera_moves=False)
    episode, view = seen(world, depth, frames=world.frames(), fixed=True)
    estimator = EstimatedDepth(EstimatorConfig(), model)
    at_once = estimator.estimate(episode, view)
    model.asked = 0
    long = estimator.estimate(episode, view, long=True)
    assert model.asked == view.length and isinstance(long.depth, np.memmap)
    np.testing.assert_array_equal(long.depth, at_once.depth)
    assert (long.alignment, long.source, long.unit) == (at_once.alignment, at_once.source, at_once.unit)


# Recorded depth itself


@pytest.mark.parametrize(
    ("depth", "code"), [(np.zeros_like(DEPTH), "no_depth"), (np.full_like(DEPTH, 1.5), "depth_constant")]
)
def test_recorded_depth_that_says_nothing_is_refused_by_name(depth, code):
    with pytest.raises(BadEpisode) as error:
        recorded.build(recorded.Config()).estimate(*seen(depth=depth))
    assert error.value.code == code


# Real pictures' depth: a recorded LIBERO episode whose own depth, distorted, is the estimate


@pytest.fixture(scope="module")
def libero():
    """An episode, its agent view and its depth."""
    reader = load_plugin("pipeline.readers", "libero").build(PluginChoice("libero").configure("pipeline.readers"))
    refs = [
        ref
        for ref in reader.list_episodes(Path(__file__).parents[2] / "data" / "libero")
        if isinstance(ref, EpisodeRef)
    ]
    episode = next(e for e in map(reader.read, refs) if e.views[e.primary].depth is not None)
    view = episode.views[episode.primary]
    return episode, view, view.depth.read()


@pytest.mark.parametrize(("method", "within"), [("recorded", 1e-5), ("plane", 1e-4), ("robot", 0.05)])
def test_a_real_scene_is_aligned_by_each_of_the_three(libero, method, within):
    """The floor is the world's z = 0. The gripper's front is some 3 cm nearer than the tool's own point, which is 3.5%
    here.
    """
    episode, view, depth = libero
    inverse = ((1 / depth + 0.2) / 3).astype(np.float32)
    found = align(method, episode, view, inverse, True)
    assert np.median(np.abs(1 / (found.scale * inverse + found.shift) / depth - 1)) < within
    assert found.residual < 0.005 and found.agreeing > 0.7
