"""What an episode did with the objects that its task is about: how near the hand came, and how far they were lifted."""

from typing import Any

import numpy as np


class HandledObjects:
    """Follows the objects of a LIBERO task. Places inside of others, such as a drawer, are not followed."""

    def __init__(self, environment: Any):
        """``environment`` is a robosuite environment of LIBERO whose episode is about to begin."""
        self._environment = environment
        known = environment.obj_body_id
        self._bodies = {name: known[name] for name in environment.obj_of_interest if name in known}
        self._began = {name: self._place(body)[2] for name, body in self._bodies.items()}
        self._nearest = dict.fromkeys(self._bodies, np.inf)
        self._raised = dict.fromkeys(self._bodies, 0.0)
        self.look()

    def look(self) -> None:
        """After each step."""
        robot = self._environment.robots[0]
        hand = self._environment.sim.data.site_xpos[robot.eef_site_id]
        for name, body in self._bodies.items():
            place = self._place(body)
            self._nearest[name] = min(self._nearest[name], float(np.linalg.norm(place - hand)))
            self._raised[name] = max(self._raised[name], float(place[2] - self._began[name]))

    @property
    def told(self) -> dict[str, dict[str, float]]:
        """By the object's name in the scene: ``nearest_m``, the shortest distance of the point between the fingers
        from the origin of its body, and ``raised_m``, the most that this origin stood above where it began."""
        return {
            name: {"nearest_m": round(self._nearest[name], 4), "raised_m": round(self._raised[name], 4)}
            for name in self._bodies
        }

    def _place(self, body: int) -> np.ndarray:
        return self._environment.sim.data.body_xpos[body]
