"""Renders states after they were recorded, as robosuite's cameras would have."""

from typing import Any

import numpy as np

COLLISION_GROUP = 0
"""Geometry that only collides; robosuite does not show it."""


class Cameras:
    """A renderer of one model; to be closed. Pictures are upside down, as OpenGL's buffer and LIBERO's files are."""

    def __init__(self, model: Any, side: int):
        """``model`` is ``mujoco.MjModel``; pictures have ``side`` x ``side`` pixels."""
        import mujoco

        self._mujoco, self._model, self.side = mujoco, model, side
        model.vis.global_.offwidth = model.vis.global_.offheight = max(side, 64)
        self._gl = mujoco.GLContext(side, side)
        self._gl.make_current()
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._view, self._option = mujoco.MjvCamera(), mujoco.MjvOption()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._option.geomgroup[COLLISION_GROUP] = 0

    def look(self, data: Any, camera: str) -> tuple[np.ndarray, np.ndarray]:
        """RGB (side x side x 3, uint8) and the normalised depth buffer (side x side, float32).

        Args:
            data: ``mujoco.MjData``, of which the poses are up to date.
            camera: its name in the model.
        """
        m = self._mujoco
        self._gl.make_current()
        self._view.fixedcamid = self._model.camera(camera).id
        m.mjv_updateScene(self._model, data, self._option, None, self._view, m.mjtCatBit.mjCAT_ALL, self._scene)
        area = m.MjrRect(0, 0, self.side, self.side)
        colours = np.empty((self.side, self.side, 3), np.uint8)
        depth = np.empty((self.side, self.side), np.float32)
        m.mjr_render(area, self._scene, self._context)
        m.mjr_readPixels(colours, depth, area, self._context)
        return colours, depth

    def close(self) -> None:
        """Free the renderer."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def __enter__(self) -> "Cameras":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
