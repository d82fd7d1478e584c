"""Errors of rollouts in pixels and metres, by hand."""

import numpy as np
import pytest

from lamp_model.data.batch import Scene
from lamp_model.training.metrics import RATIOS, _look_of
from lamp_model.training.rollout_error import RolloutErrors
from schemas.scene_flow import MOVES


def scene(unit="m"):
    """Two points at 2 m, 100 px focal length; the first moves 3 px right a step, the second stands still."""
    uvz = np.full((2, 3, 3), [0.5, 0.5, 2.0], np.float32)
    uvz[0, :, 0] += np.arange(3) * 3 / 100
    intrinsics = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    return Scene(uvz, np.ones((2, 3), bool), intrinsics, (100, 80), unit)


def test_the_truth_has_no_error_and_stillness_has_the_motions_own():
    errors, s = RolloutErrors(), scene()
    errors.add(np.diff(s.uvz, axis=1), s)
    means = errors.means()
    assert means["rollout_px_all"] == pytest.approx(0, abs=1e-4)
    # 3 and 6 px, which are 0.06 and 0.12 m at 2 m.
    assert means["still_px_moving"] == pytest.approx(4.5, rel=1e-4)
    assert means["still_m_moving"] == pytest.approx(0.09, rel=1e-4)
    assert means["still_px_all"] == pytest.approx(2.25, rel=1e-4)


def test_every_error_that_is_drawn_has_a_plain_label():
    labels = [_look_of(name)[0] for name in (*RATIOS, "action_error", "mean_action_error")]
    assert len(set(labels)) == len(RATIOS) + 2 and not any("_" in label or "px" in label for label in labels)


def test_only_points_beyond_the_threshold_move():
    s = scene()
    s.uvz[1, 1:, 2] += 0.9 * MOVES
    errors = RolloutErrors()
    errors.add(np.zeros((2, 2, 3)), s)
    assert errors.means()["still_px_moving"] == pytest.approx(4.5, rel=1e-4)
    s.uvz[1, 1:, 2] += 0.2 * MOVES
    errors = RolloutErrors()
    errors.add(np.zeros((2, 2, 3)), s)
    assert errors.means()["still_px_moving"] == pytest.approx(2.25, rel=1e-4)


def test_an_error_of_depth_counts_in_metres_only():
    errors, s = RolloutErrors(), scene()
    increments = np.diff(s.uvz, axis=1)
    increments[1, 0, 2] += 0.5
    errors.add(increments, s)
    means = errors.means()
    assert means["rollout_px_all"] == pytest.approx(0, abs=1e-4)
    assert means["rollout_m_all"] == pytest.approx(0.25, rel=1e-3)
    assert means["rollout_m_moving"] == pytest.approx(0, abs=1e-5)


def test_what_is_not_valid_does_not_count():
    errors, s = RolloutErrors(), scene()
    s.valid[0, 2] = False
    errors.add(np.zeros((2, 2, 3), np.float32), s)
    assert errors.means()["still_px_moving"] == pytest.approx(3, rel=1e-4)


def test_depth_without_a_unit_is_not_called_metres():
    errors, s = RolloutErrors(), scene("relative")
    errors.add(np.zeros((2, 2, 3), np.float32), s)
    assert "still_relative_all" in errors.means() and "still_m_all" not in errors.means()
