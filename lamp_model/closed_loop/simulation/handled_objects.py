"""What an episode did with the objects that its goal wants elsewhere: how near the hand came, how far they rose."""

from typing import Any

import numpy as np


class HandledObjects:
    """Follows the objects that a LIBERO task's goal puts on or into something: not what they are put into, and none
    where only a drawer or a knob is moved."""

    def __init__(self, environment: Any):
        """``environment`` is a robosuite environment of LIBERO whose episode is about to begin."""
        self._environment = environment
        goal = [state[1] for state in environment.parsed_problem["goal_state"] if len(state) == 3]
        wanted = [name for name in dict.fromkeys(goal) if name in environment.objects_dict]
        self._bodies = {name: environment.obj_body_id[name] for name in wanted}
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
