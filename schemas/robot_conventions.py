"""Conventions of actions and states that more than one package names: readers write them, serving maps between them."""

from schemas.episode import ActionConvention

LIBERO_DELTA = ActionConvention(
    name="libero_osc_delta",
    dimensions=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
    description=(
        "operational-space delta of the hand in the robot's base, scaled to [-1, 1]: translation, axis-angle; "
        "gripper -1 open, +1 close"
    ),
)
"""What LIBERO's environment takes."""
LIBERO_DELTA_OPEN = ActionConvention(
    name="libero_osc_delta_gripper_open",
    dimensions=LIBERO_DELTA.dimensions,
    description=(
        "operational-space delta of the hand in the robot's base, scaled to [-1, 1]: translation, axis-angle; "
        "gripper 1 open, 0 closed"
    ),
)
"""The standard form of LIBERO's actions."""
LIBERO_STATE = ("x", "y", "z", "rx", "ry", "rz", "gripper_left", "gripper_right")

BRIDGE_DELTA = ActionConvention(
    name="bridge_cartesian_delta",
    dimensions=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    description=(
        "commanded change of the hand's pose in the robot's base in one step: metres, Euler angles in radians; "
        "gripper absolute, 1 open, 0 closed"
    ),
)
BRIDGE_REACHED_DELTA = ActionConvention(
    name="bridge_reached_delta",
    dimensions=BRIDGE_DELTA.dimensions,
    description=(
        "change of the hand's measured pose in the robot's base to the next frame: metres, Euler angles in radians; "
        "gripper absolute, 1 open, 0 closed"
    ),
)
"""The standard form of Bridge's actions."""
BRIDGE_STATE = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
