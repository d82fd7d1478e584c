"""The data of a sample that the page's script draws, as plain values and packed arrays."""

import base64
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipeline.inspection.flow_statistics import MeasuredFlow, positions
from schemas.cameras import invert_pose, lift, project, transform
from schemas.flow_quanta import QUANTUM_PX, QUANTUM_Z
from schemas.triplet import Triplet


def flow_data(
    t: Triplet,
    measured: MeasuredFlow,
    limit: float,
    video: list[bytes] | None = None,
    times: Float[np.ndarray, " S"] | None = None,
) -> dict[str, Any]:
    """The start of every known point. For points that move, also the displacement in quanta and the state of each step.

    If the camera moves, every known point counts as moving, and ``own`` holds its position in the image of each step.

    Args:
        limit: the end of the scale of depth change.
        video: the frames of steps 0..T, encoded.
        times: the time of each step, in raw steps; None if the steps are evenly spaced in time.
    """
    start, known = positions(t)[:, 0], t.flow.valid[:, 0]
    moves = known if _camera_moves(t) else np.any(measured.displacement, axis=(1, 2)) & known
    state = np.where(measured.used, 1 + (measured.used & t.flow.visible), 0)[moves].astype(np.uint8)
    k = t.camera.intrinsics
    still = start[known & ~moves]
    return {
        "steps": t.flow.horizon,
        "fps": 1 / t.step_seconds,
        "times": None if times is None else times.round(3).tolist(),
        "limit": limit,
        "unit": t.depth_unit,
        "camera": [round(float(v), 3) for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2])],
        "still": still[:, :2].round(2).ravel().tolist(),
        "stillDepth": still[:, 2].round(4).tolist(),
        "moving": measured.moving[moves].astype(int).tolist(),
        "start": start[moves, :2].round(2).ravel().tolist(),
        "startDepth": start[moves, 2].round(4).tolist(),
        "moved": _packed(measured.displacement[moves] / [QUANTUM_PX, QUANTUM_PX, QUANTUM_Z]),
        "state": base64.b64encode(state.tobytes()).decode(),
        "own": _packed(_own_displacement(t, moves) / QUANTUM_PX) if _camera_moves(t) else None,
        "video": [base64.b64encode(frame).decode() for frame in video or ()],
    }


def _camera_moves(t: Triplet) -> bool:
    return len(t.camera.world_from_camera) > 1


def _own_displacement(t: Triplet, points: Bool[np.ndarray, " K"]) -> Float[np.ndarray, "P S 2"]:
    """Positions of points in the image of each step's own camera, in px relative to their start."""
    poses, uvz = t.camera.world_from_camera, positions(t)[points]
    own = project(transform(invert_pose(poses) @ poses[0], lift(uvz, t.camera.intrinsics)), t.camera.intrinsics)
    return np.nan_to_num(own[..., :2] - uvz[:, :1, :2])


def _packed(quanta: Float[np.ndarray, " ..."]) -> str:
    """Little-endian int16, as base64."""
    return base64.b64encode(np.clip(np.rint(quanta), -32768, 32767).astype("<i2").tobytes()).decode()
