"""From tracks, depth and cameras to scene flow in one reference camera.

A point tracked in frame t + k is lifted with that frame's depth and camera, transformed to the world and then to the
camera of frame t, and projected there (LaMP, section on scene flow). A moving camera in a still scene therefore gives
zero flow.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from schemas.cameras import Cameras, invert_pose, lift, project, transform
from schemas.perception import DepthMaps, Tracks2D
from schemas.scene_flow import SceneFlow


@dataclass(frozen=True)
class LiftedTracks:
    """Scene flow, and where depth is missing or uncertain.

    Attributes:
        flow: valid wherever the point is visible and has depth; ``pipeline.windows.quality`` decides about the rest.
        hole: visible, but without usable depth.
        edge: visible, and next to a depth discontinuity.
        carried: placed by its neighbours' motion (``pipeline.flow_sources._track_checks``); None where the flow source
            does not do that.
        joints: placed by the robot's recorded joints (``pipeline.flow_sources._arm_motion``); None where none are.
        exact: positions are exact, not measured: no noise filter and no check for slipped tracks is needed.
    """

    flow: SceneFlow
    hole: Bool[np.ndarray, "K S"]
    edge: Bool[np.ndarray, "K S"]
    carried: Bool[np.ndarray, "K S"] | None = None
    joints: Bool[np.ndarray, " K"] | None = None
    exact: bool = False


def to_reference(
    uvz: Float[np.ndarray, "K S 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_camera: Float[np.ndarray, "S 4 4"],
) -> Float[np.ndarray, "K S 3"]:
    """Positions (u px, v px, z) in the camera of each step, transformed to the camera of step 0; NaN behind it."""
    reference_from_camera = invert_pose(world_from_camera[0]) @ world_from_camera
    return project(transform(reference_from_camera, lift(uvz, intrinsics)), intrinsics)


def lift_tracks(tracks: Tracks2D, depth: DepthMaps, edges: Bool[np.ndarray, "T H W"], cameras: Cameras) -> LiftedTracks:
    """Scene flow of one reference frame.

    Args:
        tracks: keypoints over steps 0..T; steps beyond the clip's end are not visible.
        depth: of the whole clip.
        edges: of the whole clip, from ``depth_edges``.
        cameras: of the whole clip.
    """
    steps = tracks.uv.shape[1]
    frames = np.minimum(tracks.reference + np.arange(steps), len(depth.depth) - 1)
    z, edge = sample_depth(depth.depth, edges, frames, tracks.uv)
    if cameras.moving:
        seen = to_reference(
            np.concatenate([tracks.uv, z[..., None]], axis=-1), cameras.intrinsics, cameras.world_from_camera[frames]
        )
    else:
        seen = np.concatenate([tracks.uv, z[..., None]], axis=-1)
    has_depth = np.isfinite(seen).all(axis=-1)
    valid = tracks.visible & has_depth
    uvz = np.where(valid[..., None], seen, 0) / [*cameras.size, 1]
    return LiftedTracks(
        flow=SceneFlow(uvz, tracks.visible, valid),
        hole=tracks.visible & ~has_depth,
        edge=tracks.visible & edge,
    )


def depth_edges(depth: Float[np.ndarray, "T H W"], threshold: float) -> Bool[np.ndarray, "T H W"]:
    """Pixels at a depth discontinuity: inverse depth there is not linear along a row or a column.

    On any plane inverse depth is linear in the pixel coordinates, so its second difference is zero. A pixel is at an
    edge if the second difference, as a share of the inverse depth, exceeds ``threshold``.
    """
    edge = np.zeros(depth.shape, bool)
    with np.errstate(invalid="ignore"):
        for mark, frame in zip(edge, depth, strict=True):  # one at a time stays in the processor's cache
            w = np.float32(1) / frame
            mark[:, 1:-1] |= np.abs(w[:, :-2] + w[:, 2:] - 2 * w[:, 1:-1]) > threshold * w[:, 1:-1]
            mark[1:-1] |= np.abs(w[:-2] + w[2:] - 2 * w[1:-1]) > threshold * w[1:-1]
    return edge


def sample_depth(
    depth: Float[np.ndarray, "T H W"],
    edges: Bool[np.ndarray, "T H W"],
    frames,
    uv: Float[np.ndarray, "K S 2"],
) -> tuple[Float[np.ndarray, "K S"], Bool[np.ndarray, "K S"]]:
    """Depth at image points, and whether any pixel used lies at an edge.

    Where all four neighbours are smooth, interpolation is bilinear in inverse depth, which is exact on a plane.
    Elsewhere it is the nearest pixel's depth, NaN where that pixel has none.
    """
    height, width = depth.shape[1:]
    x, y = uv[..., 0] - 0.5, uv[..., 1] - 0.5
    left, top = (np.clip(np.floor(a).astype(int), 0, n - 2) for a, n in ((x, width), (y, height)))
    fx, fy = np.clip(x - left, -0.5, 1.5), np.clip(y - top, -0.5, 1.5)  # half a pixel beyond the outer centres
    # Flat indices: indexing with three arrays takes twice as long.
    begin = np.asarray(frames) * (height * width)
    place = begin + top * width + left
    corners = [(0, (1 - fx) * (1 - fy)), (1, fx * (1 - fy)), (width, (1 - fx) * fy), (width + 1, fx * fy)]
    inverse = np.zeros(left.shape)
    rough = np.zeros(left.shape, bool)
    for offset, weight in corners:
        used = np.abs(weight) > 1e-9
        inverse += np.where(used, weight / depth.take(place + offset), 0)
        rough |= used & edges.take(place + offset)
    row, column = (np.clip(np.rint(a), 0, n - 1).astype(int) for a, n in ((y, height), (x, width)))
    nearest = depth.take(begin + row * width + column)
    with np.errstate(divide="ignore"):
        smooth = np.isfinite(inverse) & ~rough & (inverse > 0)
        return np.where(smooth, 1 / np.where(smooth, inverse, 1), nearest), rough
