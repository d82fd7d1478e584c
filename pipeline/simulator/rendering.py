"""Renders a camera of the simulator: depth and the body in each pixel, or a picture."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from pipeline.simulator.model import simulator_library

COLLISION_GROUP = 0
"""Geometry of robosuite's models that only collides; it is never drawn."""
MULTISAMPLES = 4


class SceneCamera:
    """Renders one camera of a model in software or on a GPU, as ``MUJOCO_GL`` says.

    Args:
        model: ``mujoco.MjModel``.
        camera: its name in the model.
        size: (width, height) in pixels.
        smooth: multisampling, for pictures; depth must not use it, because it mixes depths at every edge.

    Raises:
        KeyError: the model has no such camera.
    """

    def __init__(self, model: Any, camera: str, size: tuple[int, int], smooth: bool = False):
        mujoco = simulator_library()
        self.mujoco, self.model, self.size = mujoco, model, size
        width, height = size
        model.vis.global_.offwidth, model.vis.global_.offheight = max(width, 64), max(height, 64)
        model.vis.quality.offsamples = MULTISAMPLES if smooth else 0
        self.context_gl = mujoco.GLContext(width, height)
        self.context_gl.make_current()
        self.scene = mujoco.MjvScene(model, maxgeom=10_000)
        self.context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        self.context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self.view = mujoco.MjvCamera()
        self.view.type, self.view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(camera).id
        self.option = mujoco.MjvOption()
        self.option.geomgroup[COLLISION_GROUP] = 0
        self.option.sitegroup[:] = 0

    def depth_and_bodies(self, data: Any) -> tuple[Float[np.ndarray, "H W"], Int[np.ndarray, "H W"]]:
        """Depth along the optical axis in metres (NaN where there is nothing), and the body in each pixel (-1);
        upright.

        Args:
            data: ``mujoco.MjData`` whose kinematics are up to date.
        """
        colours, buffer = self._render(data, segment=True)
        near, far = (plane * self.model.stat.extent for plane in (self.model.vis.map.znear, self.model.vis.map.zfar))
        depth = far * near / (far - near) / (buffer + near / (far - near))
        code = colours.astype(np.int32) @ [1, 256, 65536]
        bodies = np.full(self.scene.ngeom + 1, -1, np.int32)
        for geom in self.scene.geoms[: self.scene.ngeom]:
            if geom.segid >= 0 and geom.objtype == self.mujoco.mjtObj.mjOBJ_GEOM:
                bodies[geom.segid + 1] = self.model.geom_bodyid[geom.objid]
        return np.where(buffer > 0, depth, np.nan).astype(np.float32), bodies[np.minimum(code, len(bodies) - 1)]

    def picture(self, data: Any) -> UInt8[np.ndarray, "H W 3"]:
        """RGB, upright."""
        return self._render(data, segment=False)[0]

    def close(self) -> None:
        """Free the renderer."""
        self.context_gl.make_current()
        self.context.free()
        self.context_gl.free()

    def _render(self, data: Any, segment: bool) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
        m, (width, height) = self.mujoco, self.size
        self.context_gl.make_current()  # another camera's renderer may be current
        m.mjv_updateScene(self.model, data, self.option, None, self.view, m.mjtCatBit.mjCAT_ALL, self.scene)
        self.scene.flags[m.mjtRndFlag.mjRND_SEGMENT] = self.scene.flags[m.mjtRndFlag.mjRND_IDCOLOR] = int(segment)
        colours, buffer = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.float32)
        area = m.MjrRect(0, 0, width, height)
        m.mjr_render(area, self.scene, self.context)
        m.mjr_readPixels(colours, buffer, area, self.context)
        return colours[::-1].copy(), buffer[::-1].copy()
