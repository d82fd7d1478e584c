"""How the surfaces that a depth camera sees move from one frame to the next, by registering point clouds (generalised
ICP, small_gicp).

The cloud of a frame is cut into small patches, spread evenly over the picture, and each patch is registered with the
next frame's whole cloud by itself; so things may move apart, and arms bend. A patch in which depth stays what it was is
taken for still and not registered.

What no registration of surfaces can see is a surface that slides along itself: the inside of a flat thing that moves in
its own plane looks as if it stood still. Colour would tell, and is not used here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from schemas.cameras import invert_pose, lift, project, transform
from schemas.plugins import MissingDependency

NEIGHBOURS = 12
"""Points around each by which the surface's direction is estimated."""
FEWEST = 12
"""Points of a patch that is registered."""
HELD = 0.6
"""Share of a patch's points that must find a partner."""


@dataclass(frozen=True)
class PatchConfig:
    """How clouds are cut and compared; metres are the unit of depth where depth is relative.

    Attributes:
        pixels: one of so many times so many pixels becomes a point of the cloud.
        patches: rows and columns of patches in the picture.
        radius: metres around its middle that belong to a patch.
        depth_noise: share of depth by which depth of one place differs between frames when nothing moves.
        changed: share of a patch's points that must have changed for it to be registered.
        farthest: metres that a patch may move in a frame.
    """

    pixels: int = 2
    patches: int = 24
    radius: float = 0.1
    depth_noise: float = 0.005
    changed: float = 0.1
    farthest: float = 0.08

    def __post_init__(self) -> None:
        for name in ("pixels", "patches", "radius", "depth_noise", "changed", "farthest"):
            if not getattr(self, name) > 0:
                raise ValueError(f"icp.{name} must be above 0, found {getattr(self, name):g}")


@dataclass(frozen=True)
class Cloud:
    """What one frame shows, in the world.

    Attributes:
        points: of the surfaces.
        middles: of the patches, some of the points.
    """

    points: Float[np.ndarray, "N 3"]
    middles: Float[np.ndarray, "P 3"]


@dataclass(frozen=True)
class PatchMotions:
    """Motion of the patches of a frame to the next, in the world.

    Attributes:
        middles: of the patches.
        moves: pose that takes a patch's points to where they are in the next frame; the identity where it is still.
        known: it could be registered, or is still.
    """

    middles: Float[np.ndarray, "P 3"]
    moves: Float[np.ndarray, "P 4 4"]
    known: Bool[np.ndarray, " P"]


def registration_library() -> Any:
    """``small_gicp``, or a sentence that says how to get it.

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
        seed: of the pixels that are taken, one of each few; another for every frame. Taken in rows and columns, the
            points of two frames would lie on the same rays, and registration would lay ray on ray.
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
    """Whether a frame's depth says nothing against points of the world having stayed: it is what it would be, or far
    nearer, because something covers them, or they lie outside the picture."""
    height, width = depth.shape
    seen = project(transform(invert_pose(world_from_camera), points), intrinsics)
    inside = np.asarray(((seen[:, :2] >= 0) & (seen[:, :2] < [width, height])).all(axis=1))
    column, row = np.floor(np.where(inside[:, None], seen[:, :2], 0)).astype(int).T
    beyond = depth[row, column].astype(np.float64) - seen[:, 2]
    with np.errstate(invalid="ignore"):
        same = np.abs(beyond) <= config.depth_noise * seen[:, 2]
        return np.asarray(~inside | same | (beyond < -config.farthest))


def register(before: Cloud, stayed: Bool[np.ndarray, " N"], after: Cloud, config: PatchConfig) -> PatchMotions:
    """Motions of the patches of one frame to the next.

    Args:
        before: the frame's cloud.
        stayed: which of its points the next frame still shows where they were (``unchanged``).
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
    # About the patch's own middle: what the surfaces leave open, a slide along them, then stays as small as it can.
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
    """Points of the world moved with the nearest patch, and whether its motion is known."""
    if len(motions.middles) == 0:
        return points, np.zeros(len(points), bool)
    apart = ((points[:, None] - motions.middles) ** 2).sum(axis=-1)
    nearest = np.argmin(apart, axis=1)
    return transform(motions.moves[nearest], points), motions.known[nearest]
