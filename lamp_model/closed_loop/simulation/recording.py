"""Frames and imagined motion of an episode, for its video."""

from pathlib import Path
from typing import Any

import numpy as np


class Recording:
    """What one episode showed.

    The file holds ``frames`` (N x H x W x 3, uint8, of the first camera, as the benchmark gives it), ``steps`` (N:
    actions carried out before each), and where the policy tells it, ``motion`` (P x K x T x 3, float16: increments of
    each prediction, in that camera's image) and ``motion_steps`` (P: when it was made).
    """

    def __init__(self) -> None:
        self._frames: list[np.ndarray] = []
        self._steps: list[int] = []
        self._motion: list[np.ndarray] = []
        self._motion_steps: list[int] = []

    def add_frame(self, observation: dict[str, Any], step: int) -> None:
        """Keep the first camera's picture."""
        images = observation.get("images")
        if images:
            self._frames.append(np.asarray(next(iter(images.values())), np.uint8))
            self._steps.append(step)

    def add_motion(self, action: dict[str, Any], step: int) -> None:
        """Keep the motion that came with a prediction, if any did."""
        if action.get("motion") is not None:
            self._motion.append(np.asarray(action["motion"], np.float16))
            self._motion_steps.append(step)

    def write(self, path: Path) -> None:
        """Write what there is; nothing where there is no frame."""
        if not self._frames:
            return
        arrays: dict[str, Any] = {"frames": np.stack(self._frames), "steps": np.asarray(self._steps)}
        if self._motion:
            arrays |= {"motion": np.stack(self._motion), "motion_steps": np.asarray(self._motion_steps)}
        with open(path, "wb") as file:
            np.savez(file, **arrays)
