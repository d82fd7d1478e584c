"""Rotations as matrices, Euler angles and rotation vectors."""

import cv2
import numpy as np
from jaxtyping import Float


def euler_matrix(angles: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation about the fixed axes x, y and z, in this order, by roll, pitch and yaw in radians."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(angles), np.sin(angles)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def euler_angles(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 3"]:
    """Roll, pitch and yaw in radians: the inverse of ``euler_matrix``, with the pitch within a quarter turn."""
    pitch = np.arcsin(np.clip(-rotation[2, 0], -1, 1))
    return np.array([np.arctan2(rotation[2, 1], rotation[2, 2]), pitch, np.arctan2(rotation[1, 0], rotation[0, 0])])


def rotation_vector(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 3"]:
    """Axis times angle in radians."""
    return np.asarray(cv2.Rodrigues(rotation)[0])[:, 0]
