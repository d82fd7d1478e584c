"""Quality checks: each reason and each flag from a flow made to have it, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.recipe import QualityConfig
from pipeline.vision.lift import LiftedTracks
from pipeline.windows.quality import CHECKS, REASONS, evaluate
from schemas.scene_flow import PointFlag, SceneFlow

K = np.array([[150.0, 0, 64], [0, 150.0, 64], [0, 0, 1]])
SIZE, FPS, STEPS, POINTS = (128, 128), 20.0, 16, 50


def lifted(moving: int = 10, noise_px: float = 0.0) -> LiftedTracks:
    """Points at 1 m; the first ``moving`` slide 5 px to the right."""
    rng = np.random.default_rng(0)
    uvz = np.empty((POINTS, STEPS + 1, 3))
    uvz[...] = np.concatenate([rng.uniform(0.2, 0.8, (POINTS, 2)), np.ones((POINTS, 1))], axis=1)[:, None]
    uvz[:moving, :, 0] += np.linspace(0, 5 / 128, STEPS + 1)
    uvz[:, 1:, :2] += rng.uniform(-1, 1, (POINTS, STEPS, 2)) * noise_px / 128 / 2
    nothing = np.zeros(uvz.shape[:2], bool)
    return LiftedTracks(SceneFlow(uvz, ~nothing, ~nothing), nothing.copy(), nothing.copy())


def judged(given: LiftedTracks, steps: int = STEPS, **thresholds):
    return evaluate(given, steps, FPS, K, SIZE, replace(QualityConfig(), **thresholds))


def test_a_good_window_is_kept_and_only_static_points_are_touched():
    given = lifted(noise_px=0.5)
    result = judged(given)
    assert result.reason is None
    static = (result.point_flags & PointFlag.STATIC).astype(bool)
    np.testing.assert_array_equal(static, np.arange(POINTS) >= 10)
    assert (np.diff(result.flow.uvz[static], axis=1) == 0).all()
    np.testing.assert_array_equal(result.flow.uvz[~static], given.flow.uvz[~static])


def test_snapping_follows_its_thresholds():
    still = judged(lifted(noise_px=0.5), static_px=0.1)
    assert not (still.point_flags & PointFlag.STATIC).any()


def broken(reason: str) -> tuple[LiftedTracks, int, dict]:
    given = lifted()
    flow, everywhere = given.flow, np.ones((POINTS, STEPS + 1), bool)
    some = everywhere & (np.arange(POINTS)[:, None] < 40) & (np.arange(STEPS + 1) > 0)
    if reason == "too_short":
        return given, 7, {}
    if reason == "no_motion":
        return lifted(moving=0), STEPS, {}
    if reason == "too_few_visible":
        return LiftedTracks(SceneFlow(flow.uvz, ~some, ~some), given.hole, given.edge), STEPS, {}
    if reason == "depth_holes":
        return LiftedTracks(SceneFlow(flow.uvz, everywhere, ~some), some, given.edge), STEPS, {"min_valid": 0.0}
    if reason == "depth_edges":
        return LiftedTracks(flow, given.hole, some), STEPS, {}
    uvz = flow.uvz.copy()
    uvz[:20, 5:, 2] += 0.5
    return LiftedTracks(SceneFlow(uvz, everywhere, everywhere), given.hole, given.edge), STEPS, {}


@pytest.mark.parametrize("reason", REASONS)
def test_each_check_rejects_what_it_is_for(reason):
    given, steps, thresholds = broken(reason)
    assert judged(given, steps, **thresholds).reason == reason


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.reason)
def test_what_a_sample_says_was_measured_decides_whether_it_is_kept(check):
    given, steps, thresholds = broken(check.reason)
    measure = judged(given, steps, **thresholds).measures[check.measure]
    only = {c.threshold: 0 if c.least else 1.0 for c in CHECKS}
    if check.least and not check.measure.endswith("share"):  # counted, not measured
        just, beyond = int(measure), int(measure) + 1
    else:  # measures are kept to four decimals
        just, beyond = (measure - 1e-4, measure + 1e-3) if check.least else (measure + 1e-4, measure - 1e-3)
    assert judged(given, steps, **{**only, check.threshold: just}).reason is None
    assert judged(given, steps, **{**only, check.threshold: beyond}).reason == check.reason


def test_a_point_that_slides_to_the_background_is_absent_until_it_returns():
    given = lifted()
    given.flow.uvz[3, 6:10, 2] += 0.4
    result = judged(given)
    np.testing.assert_array_equal(np.flatnonzero(~result.flow.valid[3]), [6, 7, 8, 9])
    assert result.point_flags[3] & PointFlag.JUMP and not result.point_flags[4] & PointFlag.JUMP


def test_the_speed_limit_is_in_metres_per_second():
    given = lifted()
    given.flow.uvz[3, 6:, 0] += 0.06 * 150 / 128  # 6 cm at 1 m depth, in one step
    assert not judged(given, max_speed=1.0).flow.valid[3, 6]
    fast = evaluate(given, STEPS, 10.0, K, SIZE, QualityConfig(max_speed=1.0))
    assert fast.flow.valid[3, 6]


def test_moving_points_are_absent_from_the_edge_they_touch_on_and_static_ones_are_not():
    given = lifted()
    given.edge[[3, 30], 4] = True
    result = judged(given)
    assert result.flow.valid[3, :4].all() and not result.flow.valid[3, 4:].any()
    assert result.point_flags[3] & PointFlag.DEPTH_EDGE
    assert result.flow.valid[30].all()


@pytest.mark.parametrize("option", [{"min_valid": 1.5}, {"max_speed": 0}, {"static_px": -1}, {"min_steps": -1}])
def test_nonsense_is_refused_with_the_field_named(option):
    with pytest.raises(ValueError, match=f"quality.{next(iter(option))}"):
        QualityConfig(**option)
