"""Access to the pictures and depth of a clip, one frame at a time. For a long episode both are in files, and only a few
frames are in memory.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.cameras._corners import corners
from pipeline.episodes.spill import AT_A_TIME, release
from pipeline.vision.lift import depth_edges, sample_depth
from schemas.episode import CameraView
from schemas.perception import DepthMaps

EDGE = 0.05
"""Second difference of inverse depth that counts as an edge (``pipeline.vision.lift.depth_edges``); corners near one
are not used.
"""
NOISY = 0.3
"""Share of pixels at edges above which the edges are attributed to noise."""
LOOKS = 16
"""Number of frames, evenly spread, on which this is tested."""
RIM = 5
"""Px; the side of the square around an edge in which no corner is taken."""


class Clip:
    """The pictures and depth of one camera.

    Attributes:
        name: of the camera, for messages.
        length: frames.
        size: (width, height) of a frame.
        unit: of the depth.
    """

    def __init__(self, view: CameraView, depth: DepthMaps):
        self.name, self.length, self.size, self.unit = view.name, view.length, view.size, depth.unit
        self._view, self._depth = view, depth.depth
        looks = np.unique(np.linspace(0, self.length - 1, LOOKS).astype(int))
        self._noisy = bool(np.mean([depth_edges(self._depth[n : n + 1], EDGE).mean() for n in looks]) > NOISY)
        self._greys: dict[int, np.ndarray] = {}  # of the last requested frame and the one before it
        self._edges: dict[int, np.ndarray] = {}

    def grey(self, frame: int) -> UInt8[np.ndarray, "H W"]:
        """The grey picture of a frame."""
        import cv2

        if frame not in self._greys:
            if frame % AT_A_TIME == 0:
                release(self._view.frames)
                release(self._depth)
            made = cv2.cvtColor(self._view.frames[frame], cv2.COLOR_RGB2GRAY)
            self._greys = {**{n: grey for n, grey in self._greys.items() if n == frame - 1}, frame: made}
        return self._greys[frame]

    def edges(self, frame: int) -> Bool[np.ndarray, "H W"]:
        """Pixels at a depth edge; none for a clip whose depth is so noisy that edges cannot be told from noise."""
        if frame not in self._edges:
            none = np.zeros(self._depth.shape[1:], bool)
            self._edges = {frame: none if self._noisy else depth_edges(self._depth[frame : frame + 1], EDGE)[0]}
        return self._edges[frame]

    def depth(self, frame: int) -> Float[np.ndarray, "H W"]:
        """Depth of a frame."""
        return np.asarray(self._depth[frame])

    def sample(
        self, frame: int, uv: Float[np.ndarray, "N 2"]
    ) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
        """Depth at points of a frame, and whether it can be used: it is known, and no edge is near."""
        z, rough = sample_depth(self.depth(frame)[None], self.edges(frame)[None], 0, uv[:, None])
        return z[:, 0], np.isfinite(z[:, 0]) & ~rough[:, 0]

    def corners(self, frame: int, cells: int) -> Float[np.ndarray, "N 3"]:
        """Corners of a frame away from depth edges, the best of each cell of as many rows and columns: u px, v px,
        depth.
        """
        import cv2

        depth = self.depth(frame)
        near_edge = cv2.dilate(
            (self.edges(frame) | ~np.isfinite(depth)).astype(np.uint8), np.ones((RIM, RIM), np.uint8)
        )
        uv = corners(self.grey(frame), near_edge == 0, cells)
        z = depth[np.floor(uv[:, 1]).astype(int), np.floor(uv[:, 0]).astype(int)]
        return np.concatenate([uv, z[:, None].astype(np.float64)], axis=1)
