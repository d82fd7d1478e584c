"""The dis tracker on the rigid world."""

import numpy as np
import pytest

from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.trackers import dis
from schemas.scene_flow import keypoint_grid


@pytest.fixture(scope="module")
def world() -> RigidWorld:
    return moving_card(frames=16, size=(192, 144))


def test_tracks_of_the_rigid_world_stay_on_their_points(world):
    keypoints = keypoint_grid(*world.size)
    (tracks,) = dis.build(dis.Config()).track(world.frames(), [0], keypoints, 12)
    exact, seen = world.tracks(0, keypoints, 12)
    kept = tracks.visible & seen
    error = np.linalg.norm(tracks.uv - exact[..., :2], axis=-1)[kept]
    assert kept[:, 1:].sum() / seen[:, 1:].sum() > 0.85
    assert np.median(error) < 0.5
    assert np.mean(error < 2) > 0.9


def test_flow_of_a_pair_is_computed_once_each_way_for_all_windows(world, monkeypatch):
    pairs, flow = [], dis._Images.flow
    monkeypatch.setattr(dis._Images, "flow", lambda s, a, b: pairs.append((a, b)) or flow(s, a, b))
    dis.build(dis.Config(preset="ultrafast")).track(world.frames(), [0, 5, 10], keypoint_grid(*world.size), 32)
    assert len(pairs) == len(set(pairs)) <= 2 * (len(world) - 1)


def test_a_still_clip_is_followed_exactly_and_without_flow(world, monkeypatch):
    def refuse(*_):
        raise AssertionError("flow of a still pair was computed")

    monkeypatch.setattr(dis._Images, "flow", refuse)
    frames, keypoints = np.repeat(world.frames()[:1], 5, axis=0), keypoint_grid(*world.size)
    (track,) = dis.build(dis.Config()).track(frames, [0], keypoints, 4)
    np.testing.assert_array_equal(track.uv, np.repeat(keypoints[:, None], 5, axis=1))
    assert track.visible.all()


@pytest.mark.parametrize("option", [{"forward_backward": 0}, {"still_window": 4}])
def test_nonsense_is_refused_with_the_field_named(option):
    with pytest.raises(ValueError, match=f"dis.{next(iter(option))}"):
        dis.Config(**option)
