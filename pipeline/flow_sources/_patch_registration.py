"""Estimates the motion of surfaces from one frame to the next by registering point clouds (generalised ICP,
small_gicp).

The cloud of a frame is divided into small patches, spread evenly over the picture. Each patch is registered with the
next frame's whole cloud independently, so objects may move separately and arms may bend. A patch whose depth does not
change counts as still and is not registered.

Registration cannot detect a surface that slides along itself: the interior of a flat object that moves in its own plane
appears to stand still. Colour would resolve this, but it is not used here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipeline.vision.depth_noise import EXACT
from schemas.cameras import invert_pose, lift, project, transform
from schemas.plugins import MissingDependency

NEIGHBOURS = 12
"""Points around each by which the surface's direction is estimated."""
FEWEST = 12
"""Smallest number of points of a patch that is registered."""
HELD = 0.6
"""Share of a patch's points that must find a partner."""


@dataclass(frozen=True)
class PatchConfig:
    """How clouds are divided and compared; where depth is relative, "metres" are the depth's own unit.

    Attributes:
        pixels: side of the squares of pixels of which one pixel each becomes a point of the cloud.
        patches: rows and columns of patches in the picture.
        radius: metres around its middle that belong to a patch.
        depth_noise: noise of depth between frames at a place that does not move, as a share of depth; None to measure
            it from the clip, and to take it out where the camera stands still.
        changed: share of a patch's points that must have changed for it to be registered.
        farthest: largest motion of a patch from one frame to the next, metres.
    """

    pixels: int = 2
    patches: int = 24
    radius: float = 0.1
    depth_noise: float | None = None
    changed: float = 0.1
    farthest: float = 0.08

    def __post_init__(self) -> None:
        for name in ("pixels", "patches", "radius", "depth_noise", "changed", "farthest"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"icp.{name} must be above 0, found {getattr(self, name):g}")

    @property
    def noise(self) -> float:
        """``depth_noise`` as given, or that of exact depth."""
        return EXACT if self.depth_noise is None else self.depth_noise


@dataclass(frozen=True)
class Cloud:
    """The point cloud of one frame, in the world.

    Attributes:
        points: of the surfaces.
        middles: of the patches: a subset of the points.
    """

    points: Float[np.ndarray, "N 3"]
    middles: Float[np.ndarray, "P 3"]


@dataclass(frozen=True)
class PatchMotions:
    """Motion of the patches of a frame to the next, in the world.

    Attributes:
        middles: of the patches.
        moves: pose that takes a patch's points to where they are in the next frame; the identity where it is still.
        known: whether the patch was registered or is still.
    """

    middles: Float[np.ndarray, "P 3"]
    moves: Float[np.ndarray, "P 4 4"]
    known: Bool[np.ndarray, " P"]


def registration_library() -> Any:
    """Import ``small_gicp``; the error message says how to install it.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import small_gicp
    except ImportError as error:
        raise MissingDependency(
            "--flow icp needs small_gicp, which is not installed: pip install 'lamp-robotics[icp]' brings it"
        ) from error
    return small_gicp


def cloud_of(
    depth: Float[np.ndarray, "H W"],
    edges: Bool[np.ndarray, "H W"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_camera: Float[np.ndarray, "4 4"],
    config: PatchConfig,
    seed: int,
) -> Cloud:
    """The cloud of a frame and the middles of its patches; pixels at depth edges belong to neither side and are left
    out.

    Args:
        seed: for the random choice of pixels, different for every frame. With a regular grid the points of two frames
            would lie on the same rays, and registration would align the rays.
    """
    height, width = depth.shape
    usable = np.isfinite(depth) & ~edges

    def lifted(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        row, column = row[usable[row, column]], column[usable[row, column]]
        uvz = np.column_stack([column + 0.5, row + 0.5, depth[row, column]]).astype(np.float64)
        return transform(world_from_camera, lift(uvz, intrinsics))

    corners = np.stack(np.meshgrid(np.arange(0, height, config.pixels), np.arange(0, width, config.pixels)), axis=-1)
    drawn = corners.reshape(-1, 2) + np.random.default_rng(seed).integers(0, config.pixels, (corners.size // 2, 2))
    drawn = drawn[(drawn < [height, width]).all(axis=1)]
    spread = (np.arange(config.patches) + 0.5) / config.patches
    middles = np.stack(np.meshgrid((spread * height).astype(int), (spread * width).astype(int)), axis=-1).reshape(-1, 2)
    return Cloud(points=lifted(*drawn.T), middles=lifted(*middles.T))


def unchanged(
    points: Float[np.ndarray, "N 3"],
    depth: Float[np.ndarray, "H W"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_camera: Float[np.ndarray, "4 4"],
    config: PatchConfig,
) -> Bool[np.ndarray, " N"]:
    """Whether a frame's depth is consistent with points of the world not having moved: the depth is as expected, or
    much nearer (something occludes them), or they lie outside the picture."""
    height, width = depth.shape
    seen = project(transform(invert_pose(world_from_camera), points), intrinsics)
    inside = np.asarray(((seen[:, :2] >= 0) & (seen[:, :2] < [width, height])).all(axis=1))
    column, row = np.floor(np.where(inside[:, None], seen[:, :2], 0)).astype(int).T
    beyond = depth[row, column].astype(np.float64) - seen[:, 2]
    with np.errstate(invalid="ignore"):
        same = np.abs(beyond) <= config.noise * seen[:, 2]
        return np.asarray(~inside | same | (beyond < -config.farthest))


def register(before: Cloud, stayed: Bool[np.ndarray, " N"], after: Cloud, config: PatchConfig) -> PatchMotions:
    """Motions of the patches of one frame to the next.

    Args:
        before: the frame's cloud.
        stayed: which of its points have not moved according to the next frame (``unchanged``).
        after: the next frame's cloud.
        config: how patches are compared.
    """
    library = registration_library()
    count = len(before.middles)
    moves, known = np.tile(np.eye(4), (count, 1, 1)), np.ones(count, bool)
    if stayed.all() or count == 0:
        return PatchMotions(before.middles, moves, known)
    target = library.PointCloud(after.points)
    tree = library.KdTree(target)
    library.estimate_normals_covariances(target, tree, NEIGHBOURS)
    for patch, middle in enumerate(before.middles):
        apart = before.points - middle
        mine = np.flatnonzero((apart * apart).sum(axis=1) < config.radius**2)
        if len(mine) - np.count_nonzero(stayed[mine]) < config.changed * len(mine) or not len(mine):
            continue
        found = _align(library, before.points[mine], target, tree, config) if len(mine) >= FEWEST else None
        known[patch] = found is not None
        if found is not None:
            moves[patch] = found
    return PatchMotions(before.middles, moves, known)


def _align(
    library: Any, points: Float[np.ndarray, "N 3"], target: Any, tree: Any, config: PatchConfig
) -> Float[np.ndarray, "4 4"] | None:
    """The motion of a patch's points to the next cloud; None where it is not found."""
    # About the patch's own middle: the motion along the surface, which is undetermined, then stays minimal.
    middle = points.mean(axis=0)
    there = np.eye(4)
    there[:3, 3] = middle
    source = library.PointCloud(points - middle)
    library.estimate_normals_covariances(source, None, min(NEIGHBOURS, len(points)))
    result = library.align(
        target,
        source,
        tree,
        init_T_target_source=there,
        registration_type="GICP",
        max_correspondence_distance=config.farthest,
        max_iterations=30,
        rotation_epsilon=1e-4,
        translation_epsilon=1e-5,
    )
    move = np.asarray(result.T_target_source) @ invert_pose(there)
    far = np.linalg.norm(transform(move, middle) - middle) > config.farthest
    return None if far or not np.isfinite(move).all() or result.num_inliers < HELD * len(points) else move


def carry(
    points: Float[np.ndarray, "K 3"], motions: PatchMotions
) -> tuple[Float[np.ndarray, "K 3"], Bool[np.ndarray, " K"]]:
    """Points of the world moved by the motion of the nearest patch, and whether that motion is known."""
    if len(motions.middles) == 0:
        return points, np.zeros(len(points), bool)
    apart = ((points[:, None] - motions.middles) ** 2).sum(axis=-1)
    nearest = np.argmin(apart, axis=1)
    return transform(motions.moves[nearest], points), motions.known[nearest]
