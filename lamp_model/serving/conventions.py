"""What clients send and take, and how it is mapped to what a policy was trained on. Nothing else maps between them.

A client (a benchmark, or a program at a robot) has its own orientation of images, its own state and its own actions.
The policy carries those of its training data: roles of cameras, names of the state's numbers, the action convention.
``match`` finds the way from one to the other, or refuses with both sides named.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from lamp_model.errors import BadMatch
from lamp_model.networks import motion_layout
from lamp_model.observation import Observation
from lamp_model.policy import LampPolicy
from lamp_model.serving.rotations import euler_angles, euler_matrix, rotation_vector
from schemas.cameras import pose_from_quaternion
from schemas.flips import flipped
from schemas.orientation import FLIPS, Orientation
from schemas.robot_conventions import (
    BRIDGE_DELTA,
    BRIDGE_REACHED_DELTA,
    BRIDGE_STATE,
    LIBERO_DELTA,
    LIBERO_DELTA_OPEN,
    LIBERO_STATE,
)

Vector = Float[np.ndarray, " _"]
Chunk = Float[np.ndarray, "H A"]
NATIVE = "native"
WIDOWX_STATE = ("x", "y", "z", "qw", "qx", "qy", "qz", "gripper")
"""What vla-eval's SimplerEnv sends: the hand's pose in the robot's base, and the gripper, 1 open."""
BRIDGE_HAND = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""Bridge's angles are those of the hand relative to this pose, in which it points down (BridgeData's controller)."""


@dataclass(frozen=True)
class Client:
    """What one kind of client sends and takes.

    Attributes:
        name: as ``--client`` says it.
        title: in messages.
        cameras: the client's name of each camera by its role here; None: the roles are its names.
        orientation: how its images were made from upright, unmirrored ones.
        state: names of its state's numbers; None: whatever the policy was trained on.
        actions: the convention of the actions that it carries out; None: the policy's.
    """

    name: str
    title: str
    cameras: Mapping[str, str] | None = None
    orientation: Orientation = "upright"
    state: tuple[str, ...] | None = None
    actions: str | None = None


ANY = Client(NATIVE, "a client that sends and takes what the policy was trained on")
LIBERO_VLA_EVAL = Client(
    "libero",
    "LIBERO in vla-eval",
    {"image": "agentview", "wrist": "wrist"},
    "mirrored",
    LIBERO_STATE,
    LIBERO_DELTA.name,
)
WIDOWX_VLA_EVAL = Client(
    "simpler-widowx",
    "SimplerEnv's WidowX in vla-eval",
    {"image": "primary"},
    "upright",
    WIDOWX_STATE,
    "widowx_delta_axis_angle",
)
LIBERO_OPENPI = Client(
    "libero",
    "openpi's LIBERO example",
    {"image": "observation/image", "wrist": "observation/wrist_image"},
    "mirrored",
    LIBERO_STATE,
    LIBERO_DELTA.name,
)
LIBERO_AUTHORS = Client(
    "libero",
    "the authors' LIBERO client",
    {"image": "image 0", "wrist": "image 1"},
    "mirrored",
    LIBERO_STATE,
    LIBERO_DELTA_OPEN.name,
)


def client_for(policy: LampPolicy, known: Mapping[str, Client], name: str | None = None) -> Client:
    """The client of a name or, without one, that of the policy's own robot; ``native`` where none is of its robot.

    Raises:
        ValueError: no such client.
    """
    if name is None:
        own = policy.action_convention.name if policy.action_convention else ""
        fitting = [one for one in known.values() if one.actions and (own, one.actions) in ACTIONS]
        return fitting[0] if fitting else ANY
    if name not in {NATIVE, *known}:
        raise ValueError(f"the client must be one of {', '.join([NATIVE, *known])}, found {name!r}")
    return known.get(name, ANY)


@dataclass(frozen=True)
class Match:
    """The way between one client and one policy.

    Attributes:
        black: roles of the policy's cameras that the client does not have; black images take their place.
    """

    policy: LampPolicy
    client: Client
    black: tuple[str, ...]
    state_map: Callable[[Vector], Vector]
    action_map: Callable[[Chunk], Chunk]

    def key(self, role: str) -> str:
        """The client's name of a camera."""
        return role if self.client.cameras is None else self.client.cameras[role]

    def observation(self, images: Mapping[str, object], instruction: object, state: object) -> Observation:
        """The policy's observation from a client's.

        Args:
            images: by the client's names of the cameras; others are ignored.

        Raises:
            ValueError: an image is missing, or the state does not fit; ``LampPolicy.prepare`` finds other faults.
        """
        wanted = [role for role in self.policy.cameras if role not in self.black]
        missing = [self.key(role) for role in wanted if self.key(role) not in images]
        if missing:
            has = ", ".join(map(str, images)) or "none"
            raise ValueError(f"the observation lacks the image {', '.join(missing)}; it has: {has}")
        there = {role: self._upright(images[self.key(role)]) for role in wanted}
        shape = next((image.shape for image in there.values() if isinstance(image, np.ndarray)), (1, 1, 3))
        seen = [there.get(role, np.zeros(shape, np.uint8)) for role in self.policy.cameras]
        return Observation(seen, instruction, self._state(state))

    def actions(self, chunk: Chunk) -> Chunk:
        """The client's actions from the policy's."""
        return self.action_map(chunk)

    def motion(self, motion: Float[np.ndarray, "K T 3"]) -> Float[np.ndarray, "K T 3"]:
        """The motion in the image that the client sent, from the motion in the upright image."""
        turned = motion_layout.upright(torch.from_numpy(motion)[None], FLIPS[self.client.orientation])
        return turned[0].numpy()

    def _upright(self, image: object) -> object:
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            return image
        return flipped(image, *FLIPS[self.client.orientation])

    def _state(self, state: object) -> object:
        """The state in the policy's names; what is no row of numbers stays, for the policy to refuse it."""
        if self.client.state is None or self.client.state == self.policy.state_names:
            return state
        try:
            values = np.asarray(state, np.float64)
        except (TypeError, ValueError):
            return state
        if values.shape != (len(self.client.state),):
            raise ValueError(
                f"the state must be {len(self.client.state)} numbers ({', '.join(self.client.state)}), found an array "
                f"of shape {list(values.shape)}"
            )
        return self.state_map(values)


def match(policy: LampPolicy, client: Client, black: tuple[str, ...] = ()) -> Match:
    """Find the way between a client and a policy.

    Args:
        black: roles of cameras to show black where the client has no such camera, for a policy that was trained so.

    Raises:
        BadMatch: they do not fit together; the message names both sides.
    """
    lacking = [role for role in policy.cameras if client.cameras is not None and role not in client.cameras]
    if wrong := [role for role in lacking if role not in black]:
        has = ", ".join(client.cameras or ())
        raise BadMatch(
            f"the policy looks at the cameras {', '.join(policy.cameras)}, and {client.title} has {has}: there is no "
            f"{', '.join(wrong)} (if the policy was trained with a black image there, say --black-cameras)"
        )
    return Match(policy, client, tuple(lacking), _state_map(policy, client), _action_map(policy, client))


def _state_map(policy: LampPolicy, client: Client) -> Callable[[Vector], Vector]:
    names = policy.state_names
    if client.state is None or client.state == names:
        return _same
    found = STATES.get((client.state, names or ()))
    if found is None:
        has = f"({', '.join(names)})" if names else "whose names its training data did not say"
        raise BadMatch(
            f"the policy takes a state of {policy.state_range.size} numbers {has}, and {client.title} sends "
            f"{', '.join(client.state)}: there is no way from one to the other"
        )
    return found


def _action_map(policy: LampPolicy, client: Client) -> Callable[[Chunk], Chunk]:
    own = policy.action_convention
    if client.actions is None:
        return _same
    found = ACTIONS.get((own.name if own else "", client.actions))
    if found is None:
        gives = f"{own.name} ({own.description})" if own else "an action whose meaning its training data did not say"
        raise BadMatch(
            f"the policy gives {gives}, and {client.title} takes {client.actions}: the policy is of another robot, or "
            "there is no way from one to the other"
        )
    return found


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _opened_to_libero(chunk: Chunk) -> Chunk:
    """1 open, 0 closed to LIBERO's -1 open, +1 close: 1 - 2 (g > 0.5)."""
    return _with_gripper(chunk, np.where(chunk[:, -1] > 0.5, -1, 1))


def _libero_to_opened(chunk: Chunk) -> Chunk:
    """LIBERO's -1 open, +1 close to 1 open, 0 closed; the environment closes from 0 on."""
    return _with_gripper(chunk, np.where(chunk[:, -1] < 0, 1, 0))


def _euler_to_axis_angle(chunk: Chunk) -> Chunk:
    """The controller of SimplerEnv's WidowX takes a rotation vector where Bridge holds Euler angles."""
    changed = chunk.copy()
    changed[:, 3:6] = [rotation_vector(euler_matrix(angles)) for angles in chunk[:, 3:6].astype(float)]
    return changed


def _widowx_to_bridge(state: Vector) -> Vector:
    """The hand's pose with a quaternion to Bridge's roll, pitch and yaw."""
    if not np.isfinite(state).all() or not state[3:7].any():
        raise ValueError(f"the state holds no pose of the hand: it is {state.tolist()}")
    turned = pose_from_quaternion(state[:3], state[3:7])[:3, :3] @ BRIDGE_HAND.T
    return np.concatenate([state[:3], euler_angles(turned), state[7:]])


def _with_gripper(chunk: Chunk, gripper: np.ndarray) -> Chunk:
    changed = chunk.copy()
    changed[:, -1] = gripper
    return changed


ACTIONS: dict[tuple[str, str], Callable[[Chunk], Chunk]] = {
    (LIBERO_DELTA.name, LIBERO_DELTA.name): _same,
    (LIBERO_DELTA_OPEN.name, LIBERO_DELTA.name): _opened_to_libero,
    (LIBERO_DELTA.name, LIBERO_DELTA_OPEN.name): _libero_to_opened,
    (LIBERO_DELTA_OPEN.name, LIBERO_DELTA_OPEN.name): _same,
    (BRIDGE_DELTA.name, "widowx_delta_axis_angle"): _euler_to_axis_angle,
    (BRIDGE_REACHED_DELTA.name, "widowx_delta_axis_angle"): _euler_to_axis_angle,
}
"""From a policy's action convention to a client's."""
STATES: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[[Vector], Vector]] = {
    (WIDOWX_STATE, BRIDGE_STATE): _widowx_to_bridge,
}
"""From a client's state to a policy's."""
