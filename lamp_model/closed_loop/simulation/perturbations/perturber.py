"""Carries out the perturbations of one episode."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lamp_model.closed_loop.simulation.perturbations.pictures import noisy
from lamp_model.closed_loop.simulation.perturbations.places import move_objects, turn_joints
from lamp_model.closed_loop.simulation.perturbations.sentences import paraphrased
from lamp_model.closed_loop.simulation.perturbations.spec import Perturbation, chance
from lamp_model.closed_loop.simulation.perturbations.views import change_background, change_light, move_camera

SCENE = {"layout": move_objects, "robot": turn_joints}
"""These change the state, before an episode settles; of robosuite's environment."""
VIEW = {"camera": move_camera, "light": change_light, "background": change_background}
"""These change what is seen; of ``mujoco.MjModel``."""


class Perturber:
    """The perturbations of one episode.

    Attributes:
        drawn: what was drawn, by axis; can be written as JSON.
    """

    def __init__(self, perturbations: Sequence[Perturbation], seed: int):
        """``seed`` decides all that is drawn; each axis draws by itself."""
        self._strength = {one.axis: one.strength for one in perturbations}
        self._seed = seed
        self.drawn: dict[str, Any] = {}
        self._noise = chance(seed, "noise")
        if "noise" in self._strength:
            self._keep("noise", {})

    def change(self, environment: Any) -> None:
        """Change a robosuite environment that was just reset, before it settles: its state and its model."""
        for axis, strength in self._strength.items():
            if axis in SCENE:
                self._keep(axis, SCENE[axis](environment, strength, chance(self._seed, axis)))
        model = environment.sim.model._model
        for axis, strength in self._strength.items():
            if axis in VIEW:
                self._keep(axis, VIEW[axis](model, strength, chance(self._seed, axis)))
        self._upload(environment)
        environment.sim.forward()

    def picture(self, picture: np.ndarray) -> np.ndarray:
        """A picture (H x W x 3, uint8) as the camera gives it."""
        if "noise" not in self._strength:
            return picture
        return noisy(picture, self._strength["noise"], self._noise)

    def instruction(self, text: str) -> str:
        """The instruction as it is given."""
        if "language" not in self._strength:
            return text
        said = paraphrased(text, self._strength["language"], chance(self._seed, "language"))
        self._keep("language", {"instruction": said})
        return said

    def _keep(self, axis: str, drawn: dict[str, Any]) -> None:
        self.drawn[axis] = {"strength": self._strength[axis], **drawn}

    def _upload(self, environment: Any) -> None:
        """Give changed textures to the environment's renderer, if it has one."""
        import mujoco

        changed = self.drawn.get("background", {}).pop("changed", [])
        context = getattr(environment.sim, "_render_context_offscreen", None)
        if context is not None and changed:
            context.gl_ctx.make_current()
            for texture in changed:
                mujoco.mjr_uploadTexture(environment.sim.model._model, context.con, texture)
