"""What a client sends reaches the policy as its training data were; the client gets actions in its own terms."""

import cv2
import numpy as np
import pytest
from fixtures.policy import ACTION, CHUNK, STATE, policy

from lamp_model.errors import BadMatch
from lamp_model.serving.conventions import (
    ANY,
    BRIDGE_HAND,
    LIBERO_AUTHORS,
    LIBERO_OPENPI,
    LIBERO_VLA_EVAL,
    WIDOWX_STATE,
    WIDOWX_VLA_EVAL,
    client_for,
    match,
)
from lamp_model.serving.rotations import euler_angles, euler_matrix, rotation_vector
from schemas.cameras import pose_from_quaternion
from schemas.episode import ActionConvention
from schemas.robot_conventions import (
    BRIDGE_REACHED_DELTA,
    BRIDGE_STATE,
    LIBERO_DELTA,
    LIBERO_DELTA_OPEN,
    LIBERO_STATE,
)

LIBERO = [LIBERO_VLA_EVAL, LIBERO_OPENPI, LIBERO_AUTHORS]
SCENE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
SIMULATED = SCENE[::-1]  # LIBERO's simulator gives its images upside down
SENT = SIMULATED[::-1, ::-1]  # and every LIBERO client rotates those by 180 degrees
TWIST = ActionConvention("twist", tuple("xyzabcg"), "metres a second")


def seen_by(made, client, **images):
    matched = match(made, client)
    images = {matched.key(role): image for role, image in images.items()}
    return made.prepare(matched.observation(images, "open the drawer", np.zeros(STATE))).images


@pytest.mark.parametrize("client", LIBERO, ids=lambda client: client.title)
def test_liberos_pictures_reach_each_policy_in_its_own_orientation(client):
    wrist = SENT[:, :, ::-1]
    upright = seen_by(policy(), client, image=SENT, wrist=wrist)
    assert np.array_equal(upright[0], SCENE) and np.array_equal(upright[1], SCENE[:, :, ::-1])
    authors = seen_by(policy(image_orientation="mirrored"), client, image=SENT, wrist=wrist)
    assert np.array_equal(authors[0], SENT) and np.array_equal(authors[1], wrist)


def test_a_client_of_any_robot_sends_upright_pictures_by_their_roles():
    assert np.array_equal(seen_by(policy(), ANY, image=SCENE, wrist=SCENE)[0], SCENE)


@pytest.mark.parametrize(
    ("own", "client", "gripper", "sent"),
    [
        (LIBERO_DELTA_OPEN, LIBERO_VLA_EVAL, [0.0, 0.49, 0.51, 1.0], [1, 1, -1, -1]),
        (LIBERO_DELTA_OPEN, LIBERO_OPENPI, [0.0, 0.49, 0.51, 1.0], [1, 1, -1, -1]),
        (LIBERO_DELTA_OPEN, LIBERO_AUTHORS, [0.0, 0.25, 0.5, 1.0], [0.0, 0.25, 0.5, 1.0]),
        (LIBERO_DELTA, LIBERO_VLA_EVAL, [-1.0, -0.1, 0.1, 1.0], [-1.0, -0.1, 0.1, 1.0]),
        (LIBERO_DELTA, LIBERO_AUTHORS, [-1.0, -0.1, 0.1, 1.0], [1, 1, 0, 0]),
    ],
    ids=lambda v: getattr(v, "name", None) or getattr(v, "title", None) or "",
)
def test_the_gripper_opens_and_closes_as_the_client_means_it(own, client, gripper, sent):
    chunk = np.random.default_rng(0).uniform(-1, 1, (CHUNK, ACTION)).astype(np.float32)
    chunk[:, -1] = gripper
    found = match(policy(own), client).actions(chunk)
    np.testing.assert_allclose(found[:, -1], sent, atol=1e-6)
    np.testing.assert_array_equal(found[:, :-1], chunk[:, :-1])


@pytest.mark.parametrize(
    ("made", "client", "says"),
    [
        (policy(TWIST), LIBERO_VLA_EVAL, r"gives twist \(metres a second\), and LIBERO in vla-eval takes libero_osc"),
        (policy(None), LIBERO_OPENPI, "whose meaning its training data did not say, and openpi's LIBERO example takes"),
        (
            policy(state_names=tuple("abcdefgh")),
            LIBERO_AUTHORS,
            r"a state of 8 numbers \(a, b, c.*the authors' LIBERO client sends x, y, z, rx",
        ),
        (policy(state_names=None), LIBERO_AUTHORS, "8 numbers whose names its training data did not say, and the auth"),
        (
            policy(),
            WIDOWX_VLA_EVAL,
            "cameras image, wrist, and SimplerEnv's WidowX in vla-eval has image: there is",
        ),
        (
            policy(cameras=("image",)),
            WIDOWX_VLA_EVAL,
            r"state of 8 numbers \(x, y, .*, and SimplerEnv's WidowX in vla-eval sends x, y, z, qw",
        ),
    ],
    ids=["actions", "unknown actions", "states", "unknown states", "cameras", "robot"],
)
def test_what_does_not_fit_together_is_refused_with_both_sides_named(made, client, says):
    with pytest.raises(BadMatch, match=says):
        match(made, client)


def test_the_client_is_that_of_the_policys_robot_unless_said():
    known = {one.name: one for one in (LIBERO_VLA_EVAL, WIDOWX_VLA_EVAL)}
    assert client_for(policy(), known) == client_for(policy(LIBERO_DELTA), known) == LIBERO_VLA_EVAL
    assert client_for(policy(BRIDGE_REACHED_DELTA), known) == WIDOWX_VLA_EVAL
    assert client_for(policy(TWIST), known) == client_for(policy(None), known) == ANY
    assert client_for(policy(), known, "native") == ANY
    with pytest.raises(ValueError, match="must be one of native, libero, simpler-widowx, found 'panda'"):
        client_for(policy(), known, "panda")


def test_a_camera_that_the_client_lacks_can_be_black():
    made = policy(BRIDGE_REACHED_DELTA, BRIDGE_STATE)
    matched = match(made, WIDOWX_VLA_EVAL, black=("wrist",))
    image, wrist = matched.observation({"primary": SCENE}, "open", np.eye(8)[3]).images
    assert np.array_equal(image, SCENE) and wrist.shape == SCENE.shape and not wrist.any()


@pytest.mark.parametrize(
    ("images", "state", "says"),
    [
        ({"agentview": SENT}, np.zeros(8), "lacks the image wrist; it has: agentview"),
        ({}, np.zeros(8), "lacks the image agentview, wrist; it has: none"),
        ({"agentview": SENT, "wrist": "no"}, np.zeros(8), "'wrist' must be a uint8 array .* found str"),
        ({"agentview": SENT, "wrist": SENT / 255}, np.zeros(8), "'wrist' must be a uint8 array .* found float64"),
        ({"agentview": SENT, "wrist": SENT[:0]}, np.zeros(8), "'wrist' has no pixels"),
        ({"agentview": SENT, "wrist": SENT}, None, "state must be 8 numbers"),
        ({"agentview": SENT, "wrist": SENT}, np.zeros((1, 8)), "state must be 8 numbers, found an array of shape"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(images, state, says):
    made = policy()
    with pytest.raises(ValueError, match=says):
        made.prepare(match(made, LIBERO_VLA_EVAL).observation(images, "open", state))


def test_motion_comes_in_the_picture_that_was_sent():
    """A point at the left of the upright picture that moves right is at the right of the mirrored one, moving left."""
    motion = np.zeros((400, 2, 3), np.float32)
    motion[0] = (0.01, 0.02, 0.03)
    sent = match(policy(), LIBERO_VLA_EVAL).motion(motion)
    np.testing.assert_allclose(sent[19], [(-0.01, 0.02, 0.03)] * 2)
    assert np.count_nonzero(np.abs(sent).sum((1, 2))) == 1
    np.testing.assert_array_equal(match(policy(), ANY).motion(motion), motion)


def about(axis, angle):
    return cv2.Rodrigues(np.eye(3)[axis] * angle)[0]


def test_angles_are_turned_about_fixed_axes():
    angles = np.array([0.3, -0.9, 2.5])
    rotation = about(2, angles[2]) @ about(1, angles[1]) @ about(0, angles[0])
    np.testing.assert_allclose(euler_matrix(angles), rotation, atol=1e-12)
    np.testing.assert_allclose(euler_angles(rotation), angles, atol=1e-12)
    np.testing.assert_allclose(rotation_vector(about(1, 0.7)), [0, 0.7, 0], atol=1e-12)


def test_a_widowx_is_told_and_understood_as_bridge_says_it():
    matched = match(policy(BRIDGE_REACHED_DELTA, BRIDGE_STATE, cameras=("image",)), WIDOWX_VLA_EVAL)
    chunk = np.zeros((CHUNK, ACTION), np.float32)
    chunk[:, 3:] = (0.1, -0.2, 0.3, 1.0)
    sent = matched.actions(chunk)
    np.testing.assert_allclose(cv2.Rodrigues(sent[0, 3:6].astype(float))[0], euler_matrix(chunk[0, 3:6]), atol=1e-6)
    assert sent[0, -1] == 1.0
    # A hand that points down, as Bridge's controller defines it, has no angles; turned about the vertical, a yaw.
    turned = about(2, 0.5) @ BRIDGE_HAND
    quaternion = _quaternion(turned)
    np.testing.assert_allclose(pose_from_quaternion(np.zeros(3), quaternion)[:3, :3], turned, atol=1e-9)
    told = matched.observation({"primary": SCENE}, "open", [0.1, 0.2, 0.3, *quaternion, 0.9]).state
    np.testing.assert_allclose(told, [0.1, 0.2, 0.3, 0, 0, 0.5, 0.9], atol=1e-9)
    assert len(told) == len(BRIDGE_STATE) and len(WIDOWX_STATE) == 8
    with pytest.raises(ValueError, match="no pose of the hand"):
        matched.observation({"primary": SCENE}, "open", np.zeros(8))


def _quaternion(rotation):
    """By its definition: half the angle about the axis."""
    vector = cv2.Rodrigues(rotation)[0][:, 0]
    angle = np.linalg.norm(vector)
    return np.array([np.cos(angle / 2), *(np.sin(angle / 2) * vector / angle)])


def test_the_state_of_libero_is_that_of_its_data():
    assert LIBERO_VLA_EVAL.state == LIBERO_STATE and len(LIBERO_STATE) == STATE
