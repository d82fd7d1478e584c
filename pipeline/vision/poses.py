"""Camera poses between frames."""

import numpy as np
from jaxtyping import Float


def poses_between(poses: Float[np.ndarray, "T 4 4"], frames: Float[np.ndarray, " S"]) -> Float[np.ndarray, "S 4 4"]:
    """Poses interpolated at fractional frames: translation linearly, rotation about a fixed axis at constant speed."""
    import cv2

    lower, upper = np.floor(frames).astype(int), np.ceil(frames).astype(int)
    made = poses[lower].copy()
    for step in np.flatnonzero(lower != upper):
        first, second, share = poses[lower[step]], poses[upper[step]], frames[step] - lower[step]
        turn, _ = cv2.Rodrigues(first[:3, :3].T @ second[:3, :3])
        made[step, :3, :3] = first[:3, :3] @ cv2.Rodrigues(turn * share)[0]
        made[step, :3, 3] = (1 - share) * first[:3, 3] + share * second[:3, 3]
    return made
