"""Laws of speed retargeting."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.triplet import make_triplet

from lamp_model.data.sample import SampleConfig, to_sample
from schemas.cameras import intrinsics_from_fov, lift, project
from schemas.retargeting import retarget, retargeted_times
from schemas.scene_flow import GRID, HORIZON, SceneFlow

SIZE = (160, 120)
K = intrinsics_from_fov(60.0, *SIZE)
POINTS, STEPS = 40, 16
DIRECTION = np.array([0.6, 0.0, 0.8])


def moving(along: np.ndarray, movers: int = 4) -> SceneFlow:
    """Some points go so many metres along a line by each step, the rest stand still."""
    rng = np.random.default_rng(0)
    start = np.c_[rng.uniform(-0.2, 0.2, (POINTS, 2)), rng.uniform(0.8, 1.2, POINTS)]
    xyz = np.repeat(start[:, None], len(along), axis=1)
    xyz[:movers] += along[:, None] * DIRECTION
    seen = np.ones((POINTS, len(along)), bool)
    return SceneFlow(project(xyz, K) / [*SIZE, 1], seen, seen.copy())


def metres(flow: SceneFlow) -> np.ndarray:
    return lift(flow.uvz * [*SIZE, 1], K)


def test_constant_speed_is_left_as_it_is_to_the_last_bit():
    flow = moving(np.linspace(0, 0.2, STEPS + 1))
    made = retarget(flow, K, SIZE)
    np.testing.assert_array_equal(made.uvz, flow.uvz)
    np.testing.assert_array_equal(made.valid, flow.valid)


@pytest.mark.parametrize("pause", [slice(0, 6), slice(5, 11), slice(10, 16)], ids=["first", "between", "last"])
def test_a_pause_is_taken_out_and_the_path_and_its_ends_stay(pause):
    speed = np.full(STEPS, 0.02)
    speed[pause] = 0
    flow = moving(np.concatenate([[0], np.cumsum(speed)]))
    made = retarget(flow, K, SIZE)
    steps = np.linalg.norm(np.diff(metres(made)[0], axis=0), axis=-1)
    np.testing.assert_allclose(steps, speed.sum() / STEPS, atol=1e-9)
    np.testing.assert_allclose(metres(made)[:, [0, -1]], metres(flow)[:, [0, -1]], atol=1e-9)
    line = metres(made)[0] - metres(made)[0, :1]
    np.testing.assert_allclose(np.cross(line, DIRECTION), 0, atol=1e-9)


def test_slow_and_fast_motion_along_one_path_become_the_same():
    time = np.linspace(0, 1, STEPS + 1)
    one, other = (retarget(moving(0.3 * t), K, SIZE) for t in (time**2, np.sqrt(time)))
    np.testing.assert_allclose(metres(one), metres(other), atol=1e-9)
    assert np.ptp(np.linalg.norm(np.diff(metres(one)[0], axis=0), axis=-1)) < 1e-9


def test_a_bent_path_keeps_its_length_up_to_its_corners_and_all_points_share_the_times():
    time = np.linspace(0, 1, STEPS + 1)
    flow = moving(0.3 * time**2)
    xyz = metres(flow)
    xyz[0, :, 1] += 0.02 * np.sin(6 * time)
    xyz[7] += 0.01 * time[:, None] * DIRECTION
    bent = replace(flow, uvz=project(xyz, K) / [*SIZE, 1])
    times = retargeted_times(bent, K, SIZE)
    made = metres(retarget(bent, K, SIZE))
    assert times[0] == 0 and times[-1] == STEPS and (np.diff(times) > 0).all()
    length = np.linalg.norm(np.diff(made[0], axis=0), axis=-1).sum()
    assert length == pytest.approx(np.linalg.norm(np.diff(xyz[0], axis=0), axis=-1).sum(), rel=0.02)
    along = np.interp(times, np.arange(STEPS + 1), 0.01 * time)
    np.testing.assert_allclose(np.linalg.norm(made[7] - made[7, :1], axis=-1), along, atol=1e-6)


def test_what_is_hidden_or_unknown_at_either_side_of_a_new_step_stays_so_and_decides_no_speed():
    flow = moving(0.3 * np.linspace(0, 1, STEPS + 1) ** 2)
    flow.visible[1, 5:8] = False
    flow.valid[2, 5:8] = False
    flow.uvz[2, 5:8] = 77.0
    times = retargeted_times(flow, K, SIZE)
    made = retarget(flow, K, SIZE)
    touches = np.isin(np.floor(times), [5, 6, 7]) | np.isin(np.ceil(times), [5, 6, 7])
    np.testing.assert_array_equal(made.visible[1], ~touches)
    np.testing.assert_array_equal(made.valid[2], ~touches)
    assert touches.any() and made.uvz.max() < 77
    whole = retargeted_times(moving(0.3 * np.linspace(0, 1, STEPS + 1) ** 2), K, SIZE)
    np.testing.assert_allclose(times, whole, atol=0.05)


def test_steps_after_the_episodes_end_stay_unknown():
    flow = moving(0.3 * np.linspace(0, 1, STEPS + 1) ** 2)
    flow.valid[:, 11:] = flow.visible[:, 11:] = False
    made = retarget(flow, K, SIZE)
    np.testing.assert_array_equal(made.valid, flow.valid)
    np.testing.assert_allclose(metres(made)[:, 10], metres(flow)[:, 10], atol=1e-9)


def test_a_window_in_which_nothing_moves_is_returned_as_it_is():
    still = moving(np.zeros(STEPS + 1))
    assert retarget(still, K, SIZE) is still
    unknown = replace(still, valid=np.zeros_like(still.valid))
    assert retarget(unknown, K, SIZE) is unknown


def test_the_loader_learns_from_it_only_when_asked_and_the_sample_keeps_the_raw_flow():
    triplet = make_triplet()
    config = SampleConfig(("image",), 5, GRID**2, HORIZON)
    raw, even = (to_sample(triplet, replace(config, retargeted=r), "x").motion.numpy()[0] for r in (False, True))
    expected, mask = retarget(triplet.flow, triplet.camera.intrinsics, triplet.camera.size).increments(seen_only=True)
    np.testing.assert_array_equal(even, expected.astype(np.float32))
    np.testing.assert_array_equal(raw, triplet.flow.increments(seen_only=True)[0].astype(np.float32))
    assert mask.any() and not np.array_equal(raw, even)
