"""Flow as small integers: displacements in quanta of 0.04 px and 0.1 mm, which the shards store."""

import numpy as np

from schemas.scene_flow import SceneFlow

QUANTUM_PX = 0.04
QUANTUM_Z = 1e-4


class FlowTooLarge(ValueError):
    """A displacement does not fit the format: 1,310 px or 3.27 units of depth."""


def quantise(flow: SceneFlow, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Start positions, float32 [K, 3], and displacements from them in quanta, int16 [K, T, 3].

    Steps that are not valid hold the last valid displacement (zero before the first), which compresses well.

    Raises:
        FlowTooLarge: a valid displacement is too large for 16 bits (1,310 px or 3.27 m).
    """
    start = np.where(flow.valid[:, :1], flow.uvz[:, 0], np.nan_to_num(flow.uvz[:, 0]))
    moved = np.where(flow.valid[..., None], flow.uvz - start[:, None], 0)
    quanta = np.rint(moved / _quantum(size))
    last = np.maximum.accumulate(np.where(flow.valid, np.arange(flow.valid.shape[1]), 0), axis=1)
    quanta = np.take_along_axis(quanta, last[..., None], axis=1)
    if np.abs(quanta).max(initial=0) > np.iinfo(np.int16).max:
        raise FlowTooLarge(
            "a displacement is too large for the format: the limits are 1,310 px and 3.27 units of depth"
        )
    return start.astype(np.float32), quanta[:, 1:].astype(np.int16)


def dequantise(start: np.ndarray, displacement: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(u, v, z) float32 [K, T + 1, 3] from the result of ``quantise``."""
    points, steps = displacement.shape[:2]
    # Points innermost, as they are stored: several times faster than in the order returned.
    uvz = np.empty((steps + 1, 3, points), np.float32)
    uvz[0] = start.T
    uvz[1:] = displacement.transpose(1, 2, 0)  # numpy multiplies mixed types several times more slowly
    uvz[1:] *= _quantum(size).astype(np.float32)[:, None]
    uvz[1:] += uvz[0]
    return uvz.transpose(2, 0, 1)


def _quantum(size: tuple[int, int]) -> np.ndarray:
    return np.array([QUANTUM_PX / size[0], QUANTUM_PX / size[1], QUANTUM_Z])
