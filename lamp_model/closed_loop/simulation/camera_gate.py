"""Cameras of a robosuite environment that render only when someone looks.

robosuite renders every camera at every step, while a policy looks once for each chunk of actions. The gate replaces the
function that a camera's observable calls, and nothing of its timing: robosuite takes a picture at the first of a step's
25 substeps, and a picture through an open gate is taken at the same one. So pictures are equal to the last bit.
"""

import time
from typing import Any

import numpy as np


class CameraGate:
    """A gate before all cameras of one environment.

    Attributes:
        open: whether the next step's pictures are rendered; black ones are returned otherwise.
        fresh: whether the pictures of the last step were.
        seconds: spent in rendering so far.
    """

    def __init__(self, environment: Any):
        """``environment`` is a robosuite environment; the gate works from its next reset on."""
        self.open, self.fresh, self.seconds = True, True, 0.0
        self._make = environment._create_camera_sensors
        environment._create_camera_sensors = self._gated_sensors

    def _gated_sensors(self, cam_name: str, cam_w: int, cam_h: int, **others: Any) -> tuple[list[Any], list[str]]:
        sensors, names = self._make(cam_name, cam_w=cam_w, cam_h=cam_h, **others)
        black = np.zeros((cam_h, cam_w, 3), np.uint8)
        pairs = zip(sensors, names, strict=True)
        gated = [self._gated(sensor, black) if name.endswith("_image") else sensor for sensor, name in pairs]
        return gated, names

    def _gated(self, sensor: Any, black: np.ndarray) -> Any:
        def look(obs_cache: Any) -> np.ndarray:
            self.fresh = self.open
            if not self.open:
                return black
            start = time.perf_counter()
            picture = sensor(obs_cache)
            self.seconds += time.perf_counter() - start
            return picture

        look.__modality__ = sensor.__modality__  # robosuite reads it from the function
        return look
