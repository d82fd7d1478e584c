"""What a hand holds is found in pixels, and follows the hand also where it turns and slides before it sits firmly."""

import cv2
import numpy as np
import pytest

from pipeline.flow_sources._body_claims import ClaimConfig, Claims
from pipeline.flow_sources._body_motion import BodyMotion
from pipeline.flow_sources._grip import SETTLES, settled
from pipeline.flow_sources._held_pixels import held_around, leaving, near_hand
from pipeline.flow_sources._holding import Carrier, Hold
from pipeline.flow_sources._point_evidence import Evidence, WindowViewer
from pipeline.vision.patches import patches
from schemas.cameras import Cameras, lift, project, transform

SIZE, FOCAL, STEPS, TAKEN = 224, 320.0, 24, 8
INTRINSICS = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])
HOLD = Hold(TAKEN, STEPS - 1)
HERE = np.array([0.0, 0.02, 0.75])
"""Middle of a stone that lies on a table 0.8 m below the camera."""


def pose(turn: np.ndarray | None = None, shift: tuple[float, ...] = (0, 0, 0)) -> np.ndarray:
    """A turn about the stone's middle, as a rotation vector, and a shift."""
    rotation = cv2.Rodrigues(np.zeros(3) if turn is None else np.asarray(turn, float))[0]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, HERE - rotation @ HERE + shift
    return matrix


HAND = np.stack([pose(shift=tuple(max(step - TAKEN, 0) * np.array([0, -0.014, -0.004]))) for step in range(STEPS)])
"""It waits, and lifts: up in the picture, and towards the camera."""


def stone() -> np.ndarray:
    """Places on its surface, densely: a box's would slide along itself unseen."""
    across, along = (m.ravel() for m in np.meshgrid(np.linspace(0, np.pi, 300), np.linspace(0, 2 * np.pi, 600)))
    around = np.sin(across) * np.cos(along), np.sin(across) * np.sin(along), np.cos(across)
    return np.stack(around, axis=1) * (0.055, 0.035, 0.04) + HERE


def seen(motion: np.ndarray) -> np.ndarray:
    """Depth of table and stone at every step."""
    depth = np.full((STEPS, SIZE, SIZE), 0.8, np.float32)
    places = stone()
    for step in range(STEPS):
        u, v, z = project(transform(motion[step], places), INTRINSICS).T
        inside = (u >= 0) & (u < SIZE) & (v >= 0) & (v < SIZE)
        at = v[inside].astype(int) * SIZE + u[inside].astype(int)
        np.minimum.at(depth[step].reshape(-1), at, z[inside].astype(np.float32))
    return depth


def moved(settling: np.ndarray) -> np.ndarray:
    """The stone's motion: it settles step by step after it is taken."""
    turn, middle = cv2.Rodrigues(settling[:3, :3])[0][:, 0], settling[:3, :3] @ HERE + settling[:3, 3] - HERE
    share = np.clip((np.arange(STEPS) - TAKEN) / SETTLES, 0, 1)
    return np.stack([hand @ pose(s * turn, tuple(s * middle)) for hand, s in zip(HAND, share, strict=True)])


def viewer_of(depth: np.ndarray) -> WindowViewer:
    cameras = Cameras(INTRINSICS, np.tile(np.eye(4), (STEPS, 1, 1)), (SIZE, SIZE), False, "test", "test")
    return WindowViewer(np.zeros(depth.shape, np.uint8), depth, cameras, np.arange(STEPS), 0.01)


def hand(surface: np.ndarray | None = None) -> Carrier:
    body = BodyMotion(np.arange(1), np.ones(STEPS, bool), HAND[:, :3, :3], HAND[:, :3, 3])
    return Carrier(body, np.arange(1), HERE - [0, 0, 0.05], np.empty((0, 3)) if surface is None else surface)


def of_stone(viewer: WindowViewer, surface: np.ndarray | None = None) -> np.ndarray:
    holder = hand(surface)
    return leaving(near_hand(viewer, holder, HOLD, reach=0.2), holder, HOLD, viewer.match)


def test_what_leaves_with_the_hand_is_the_stone():
    depth = seen(moved(np.eye(4)))
    places = of_stone(viewer_of(depth))
    assert len(places) > 100 and (np.abs(places[:, :2] - HERE[:2]) < 0.06).all() and (places[:, 2] < 0.79).all()
    # What is on the robot, and what had left before it was taken, is another thing.
    assert len(of_stone(viewer_of(depth), surface=stone())) == 0
    depth[3:, :, : SIZE // 2] = 0.8
    assert of_stone(viewer_of(depth))[:, 0].min() > -0.01


@pytest.mark.parametrize(
    "settling",
    [pose((0.2, 0.12, 0), (0.01, 0, 0.012)), pose((0, 0.25, 0.1), (0, 0.01, 0.02)), pose(None, (0.015, -0.01, 0.02))],
)
def test_a_thing_that_settles_in_the_hand_is_followed(settling):
    motion = moved(settling)
    viewer = viewer_of(seen(motion))
    places = of_stone(viewer)
    found = settled(viewer, hand().body, HOLD, places)
    assert found is not None
    truth = np.stack([transform(one, places) for one in motion], axis=1)
    since, until = np.full(len(places), TAKEN), np.full(len(places), STEPS - 1)
    off, own = (np.linalg.norm(viewer.held(body, places, since, until, True).xyz - truth, axis=-1)
                for body in (found, hand().body))  # fmt: skip
    after = slice(TAKEN + SETTLES, None)
    # A smooth thing's turn can hardly be seen: it is not expected.
    assert off[:, after].mean() < (0.005 if (settling[:3, :3] == np.eye(3)).all() else 0.6 * own[:, after].mean())
    assert own[:, after].mean() > 0.012 and off[:, : TAKEN + 1].max() < 1e-9


def test_a_thing_that_sits_as_it_lay_goes_with_the_hand():
    viewer = viewer_of(seen(moved(np.eye(4))))
    assert settled(viewer, hand().body, HOLD, of_stone(viewer)) is None


def test_what_no_settling_explains_is_left_to_the_hand():
    motion = moved(np.eye(4))
    motion[TAKEN + 2 :] = pose(shift=(0.3, 0, 0))  # it flew away
    viewer = viewer_of(seen(motion))
    assert settled(viewer, hand().body, HOLD, of_stone(viewer)) is None
    assert settled(viewer, hand().body, Hold(TAKEN, TAKEN + SETTLES), stone()[:100]) is None, "too short to tell"
    assert settled(viewer, hand().body, HOLD, stone()[:5]) is None


def fingers() -> list[Carrier]:
    """Two, which close until the stone is taken."""
    opened = 0.004 * np.maximum(TAKEN - np.arange(STEPS), 0)
    found = []
    for side in (-1, 1):
        shift = HAND[:, :3, 3] + side * np.outer(opened - opened[0], (1, 0, 0))
        body = BodyMotion(np.arange(1), np.ones(STEPS, bool), HAND[:, :3, :3], shift)
        found.append(Carrier(body, np.arange(1), HERE + np.array([0.08 * side, 0, 0]), np.empty((0, 3))))
    return found


def test_points_of_what_settles_in_the_hand_are_labelled_where_it_is():
    motion = moved(pose((0.2, 0.12, 0), (0.01, 0, 0.012)))
    viewer = viewer_of(seen(motion))
    start = of_stone(viewer)[::6]
    count = len(start)
    every = (count, STEPS)
    uv = np.broadcast_to(project(start, INTRINSICS)[:, None, :2], (*every, 2))
    left = np.ones(count, bool)
    waits = np.broadcast_to(np.arange(STEPS) <= TAKEN, every)
    known = Evidence(
        start=start, usable=left, settled=~left, still_uv=uv, there=waits, onset=np.full(count, TAKEN + 3), left=left,
        gone=left, stirs=left, track_uv=uv, track_valid=np.zeros(every, bool),
        looks=patches(viewer.grey, np.zeros(count, int), uv[:, 0]), beside=np.full((count, 1), -1),
    )  # fmt: skip
    given, _ = Claims(known, viewer, ClaimConfig()).settle([], fingers())
    truth = np.stack([transform(one, start) for one in motion], axis=1)
    off = np.concatenate([np.linalg.norm(one.placed.xyz - truth[one.point], axis=-1) for one in given])
    assert len(off) > 0.9 * count and off[:, : TAKEN + 1].max() < 0.01
    assert off[:, TAKEN + SETTLES :].mean() < 0.008


def test_points_among_held_pixels_are_held_and_those_on_the_table_are_not():
    viewer = viewer_of(seen(moved(np.eye(4))))
    near = near_hand(viewer, hand(), HOLD, reach=0.2)
    on = HERE + np.array([[0, 0, -0.04], [0.02, 0.01, -0.035]])
    beside = np.array([[0.1, 0.1, 0.8], [-0.12, 0, 0.8]])
    around = held_around(viewer, near, hand().body, HOLD, np.concatenate([on, beside]))
    np.testing.assert_array_equal(around, [True, True, False, False])
    stands = viewer_of(seen(np.tile(np.eye(4), (STEPS, 1, 1))))
    near = near_hand(stands, hand(), HOLD, reach=0.2)
    assert not held_around(stands, near, hand().body, HOLD, on).any()


def test_places_are_those_of_the_pixels():
    viewer = viewer_of(seen(moved(np.eye(4))))
    near = near_hand(viewer, hand(), HOLD, reach=0.2)
    u, v, _ = project(near.places, INTRINSICS).T
    again = lift(np.stack([u, v, viewer.depth[0, v.astype(int), u.astype(int)]], axis=-1), INTRINSICS)
    np.testing.assert_allclose(again, near.places, atol=1e-6)
    assert near.behind.shape == (STEPS, len(near.places)) and not near.behind[: TAKEN + 1].any()
