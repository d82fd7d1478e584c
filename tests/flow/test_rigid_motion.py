"""Laws of rigid motion fitted to neighbours."""

import numpy as np
import pytest

from pipeline.vision.rigid_motion import fit_rigid, predict

RNG = np.random.default_rng(4)


def turned(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def body(points: int = 30, steps: int = 6) -> np.ndarray:
    """A thing of 10 cm that turns and moves."""
    start = RNG.uniform([-0.05, -0.05, 0.95], [0.05, 0.05, 1.05], (points, 3))
    return np.stack([start @ turned(0.2 * t).T + [0.03 * t, 0, -0.01 * t] for t in range(steps)], axis=1)


def predicted(xyz, valid, leaders, wanted):
    return predict(xyz, valid, leaders, wanted, neighbours=10, reach=0.2, agree=0.005)


def fitted(before: np.ndarray, after: np.ndarray, used: np.ndarray | None = None):
    """``fit_rigid`` with the coordinates last."""
    used = np.ones(before.shape[:2], bool) if used is None else used
    return fit_rigid(before.transpose(2, 0, 1), after.transpose(2, 0, 1), used)


def test_a_rigid_motion_is_found_and_never_a_mirror():
    before = RNG.normal(size=(5, 8, 3))
    after = before @ turned(2.5).T + [1, 2, 3]
    rotation, shift, _ = fitted(before, after)
    np.testing.assert_allclose(rotation, np.broadcast_to(turned(2.5), (5, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(shift, np.broadcast_to([1, 2, 3], (5, 3)), atol=1e-12)
    mirrored, _, _ = fitted(before, before * [1, 1, -1])
    np.testing.assert_allclose(np.linalg.det(mirrored), 1)


def kabsch(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Rotations by singular value decomposition (Kabsch 1976), of points whose centre is at 0."""
    left, _, right = np.linalg.svd(before.swapaxes(1, 2) @ after)
    proper = np.ones(left.shape[:2])
    proper[:, 2] = np.linalg.det(left @ right)
    return (left * proper[:, None] @ right).swapaxes(1, 2)


@pytest.mark.parametrize("noise", [0, 1e-4, 0.01, 0.1])
@pytest.mark.parametrize("thickness", [1, 1e-3, 0])
def test_rotations_are_those_of_the_decomposition_for_flat_noisy_and_mirrored_points(noise, thickness):
    before = RNG.normal(size=(200, 16, 3)) * [0.1, 0.1, 0.1 * thickness]
    before -= before.mean(axis=1, keepdims=True)
    after = before @ turned(2).T @ np.diag([1, -1, 1 if thickness else -1]) + noise * RNG.normal(size=before.shape)
    after -= after.mean(axis=1, keepdims=True)
    rotation, _, spread = fitted(before, after)
    np.testing.assert_allclose(rotation, kabsch(before, after), atol=1e-7)
    second = np.linalg.svd(before.swapaxes(1, 2) @ after, compute_uv=False)[:, 1]
    assert (spread > 0.7 * second).all() and (spread < 1.42 * second).all()


def test_points_on_a_line_or_in_one_place_spread_not_at_all_and_give_some_rotation():
    line = np.linspace(-1, 1, 8)[:, None] * np.array([1.0, 2, 3])
    before = np.stack([line, np.zeros((8, 3)), line])
    used = np.ones((3, 8), bool)
    used[2, 1:] = False
    rotation, _, spread = fitted(before, before, used)
    np.testing.assert_allclose(spread, 0, atol=1e-7)
    assert np.isfinite(rotation).all()


def test_what_is_asked_again_after_a_change_is_what_a_change_can_alter():
    xyz, wanted = body(points=80), np.ones((80, 6), bool)
    xyz[:40, 1:] += 0.3 * np.arange(1, 6)[:, None]
    valid, leaders = RNG.random((80, 6)) < 0.9, RNG.random(80) < 0.8
    settings = {"neighbours": 6, "reach": 0.05, "agree": 0.005}
    before = predict(xyz, valid, leaders, wanted, **settings)
    changed = RNG.random((80, 6)) < 0.02
    after = predict(np.where(changed[..., None], xyz + 0.004, xyz), valid ^ changed, leaders, wanted, **settings)
    again = predict(
        np.where(changed[..., None], xyz + 0.004, xyz), valid ^ changed, leaders, wanted, changed=changed, **settings
    )
    was, now, new = (
        {(p, s): tuple(x) for p, s, x in zip(f.point, f.step, f.xyz, strict=True)} for f in (before, after, again)
    )
    assert 0 < len(new) < len(now) / 2
    assert new.items() <= now.items()
    assert {key for key in now if now[key] != was.get(key)} <= new.keys()


def test_lost_points_of_a_body_are_put_exactly_where_it_carries_them():
    xyz = body()
    valid = np.ones(xyz.shape[:2], bool)
    valid[::3, 2:] = False
    spoilt = np.where(valid[..., None], xyz, np.nan)
    found = predicted(spoilt, valid, np.ones(len(xyz), bool), ~valid)
    assert len(found.point) == (~valid).sum()
    np.testing.assert_allclose(found.xyz, xyz[found.point, found.step], atol=1e-9)


def test_one_leader_that_strayed_does_not_lead_astray():
    xyz = body()
    xyz[1, 3:] += 0.1
    wanted = np.zeros(xyz.shape[:2], bool)
    wanted[0, 3:] = True
    found = predicted(xyz, np.ones_like(wanted), np.ones(len(xyz), bool), wanted)
    near = np.linalg.norm(found.xyz - xyz[found.point, found.step], axis=-1)
    assert (near < 0.02).all()


def test_neighbours_that_do_not_move_as_one_or_lie_on_a_line_or_are_few_say_nothing():
    wanted = np.zeros((30, 6), bool)
    wanted[0, 2:] = True
    valid, all_of_them = np.ones((30, 6), bool), np.ones(30, bool)
    scattered = body() + RNG.normal(size=(30, 6, 3)) * 0.02 * (np.arange(6) > 0)[:, None]
    assert len(predicted(scattered, valid, all_of_them, wanted).point) == 0
    line = body()
    line[:] = [0, 0, 1] + np.linspace(0, 0.1, 30)[:, None, None] * np.array([1.0, 0, 0])
    assert len(predicted(line, valid, all_of_them, wanted).point) == 0
    assert len(predicted(body(), valid, np.arange(30) < 4, wanted).point) == 0
    assert len(predicted(body() * 100, valid, all_of_them, wanted).point) == 0
