"""Aligns estimated depth to metres, with one scale and one shift of inverse depth for the whole episode.

Relative estimates give inverse depth up to a scale and a shift; metric estimates have a small scale error.
Anchors are pixels whose metric depth is known from elsewhere:

* ``recorded``: depth recorded with the episode, however sparse.
* ``plane``: the table, a plane at a known height in the world, where intrinsics and pose are known. Most of the picture
  must show it.
* ``robot``: the tool's recorded position, seen by a camera whose intrinsics and pose are known.

Many anchors are outliers: a pixel that shows an object on the table, a tool behind an object. So the line is fitted
robustly: the line with most inliers (RANSAC, Fischler and Bolles 1981), refined by least squares with Tukey's weights.
If no alignment is possible, ``CannotAlign`` gives the reason.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from schemas.cameras import invert_pose, lift, project, transform
from schemas.episode import CameraView, Episode
from schemas.perception import DepthAlignment

Method = Literal["recorded", "plane", "robot"]

MOST_ANCHORS = 4096
ANCHOR_FRAMES = 16
"""Frames from which anchors are taken, evenly spread; the robot's are taken from all."""
TOLERANCE = 0.05
"""Largest error of an inlier anchor, as a share of its inverse depth."""
FEWEST = {"recorded": 50, "plane": 50, "robot": 10}
AGREEING = {"recorded": 0.5, "plane": 0.25, "robot": 0.5}
"""Share of the anchors that must be inliers; many of the plane's show objects on the table or behind it."""
SPREAD = 1.15
"""Ratio of the farthest to the nearest agreeing anchor, without its extremes, from which on scale and shift can be told
apart.
"""
NEAREST, FARTHEST = 0.05, 20.0
"""Range in metres in which the table and the tool are expected."""


class CannotAlign(ValueError):
    """The episode has no anchors for this method, or the anchors do not agree; the message says which."""


@dataclass(frozen=True)
class Anchors:
    """N places with an estimate and known metric depth.

    Attributes:
        estimate: estimated inverse depth.
        known: 1/m.
        pairs: both, with less noise, for fitting; None: the same.
    """

    estimate: Float[np.ndarray, " N"]
    known: Float[np.ndarray, " N"]
    pairs: Float[np.ndarray, "2 N"] | None = None


@dataclass(frozen=True)
class Line:
    """``known = scale * estimate + shift``.

    Attributes:
        agreeing: share of the pairs that are inliers.
        spread: ratio of the 95th to the 5th percentile of the inliers' known values.
    """

    scale: float
    shift: float
    agreeing: float
    spread: float


def align(
    method: Method,
    episode: Episode,
    view: CameraView,
    inverse: Float[np.ndarray, "T H W"],
    shifted: bool,
    table_height: float = 0.0,
) -> DepthAlignment:
    """Fit an estimate to an episode's anchors.

    Args:
        method: which anchors.
        episode: its state is used.
        view: its recorded depth, intrinsics and pose are used.
        inverse: estimated inverse depth, NaN where unknown.
        shifted: whether to fit a shift too, as for relative depth; else only the scale.
        table_height: z of the table in the world, metres.

    Raises:
        CannotAlign: the episode has no such anchors, or they do not agree.
    """
    if method == "recorded":
        anchors = recorded_anchors(view, inverse)
    elif method == "plane":
        anchors = plane_anchors(view, inverse, table_height)
    else:
        anchors = robot_anchors(episode, view, inverse)
    count = len(anchors.known)
    if count < FEWEST[method]:
        raise CannotAlign(f"{method}: {count} anchors, at least {FEWEST[method]} are needed")
    estimate, known = (anchors.estimate, anchors.known) if anchors.pairs is None else anchors.pairs
    line = fit_line(estimate, known, TOLERANCE * known, shifted)
    if line is None or line.agreeing < AGREEING[method]:
        found = 0.0 if line is None else line.agreeing
        raise CannotAlign(f"{method}: {found:.0%} of the anchors agree, at least {AGREEING[method]:.0%} are needed")
    if shifted and line.spread < SPREAD:
        raise CannotAlign(f"{method}: all anchors lie at nearly one depth, which does not tell scale from shift")
    with np.errstate(divide="ignore"):
        aligned = 1 / np.maximum(line.scale * anchors.estimate + line.shift, 1 / FARTHEST)
    return DepthAlignment(
        method=method,
        scale=line.scale,
        shift=line.shift,
        residual=float(np.median(np.abs(aligned - 1 / anchors.known))),
        residual_unit="m",
        anchors=count,
        agreeing=line.agreeing,
    )


def fit_line(
    estimate: Float[np.ndarray, " N"], known: Float[np.ndarray, " N"], tolerance: Float[np.ndarray, " N"], shifted: bool
) -> Line | None:
    """The line with a positive scale and the most inliers. Deterministic.

    Args:
        tolerance: largest distance from the line at which each pair is an inlier.
        shifted: whether the line may have a shift; else it goes through the origin.

    Returns:
        None when no line with a positive scale goes through any two pairs.
    """
    scales, shifts = _candidates(estimate, known, shifted)
    if len(scales) == 0:
        return None
    off = np.abs(scales[:, None] * estimate + shifts[:, None] - known) / tolerance
    best = int(np.minimum(off, 1).sum(axis=1).argmin())
    scale, shift = float(scales[best]), float(shifts[best])
    for _ in range(20):
        off = (scale * estimate + shift - known) / tolerance
        near = np.abs(off)[np.abs(off) < 1]
        # Tukey's constant is 4.7 standard deviations, one of which is 1.5 median distances; never wider than the
        # tolerance allows.
        reach = min(max(7 * float(np.median(near)), 1e-3), 2) if len(near) else 2
        weight = (
            np.where(np.abs(off) < reach, 1 - (off / reach) ** 2, 0) / tolerance
        )  # the square root of Tukey's weight
        columns = [weight * estimate, weight] if shifted else [weight * estimate]
        solution, *_ = np.linalg.lstsq(np.stack(columns, axis=1), weight * known, rcond=None)
        if not np.isfinite(solution).all() or solution[0] <= 0:
            break
        scale, shift = float(solution[0]), float(solution[1]) if shifted else 0.0
    agrees = np.abs(scale * estimate + shift - known) <= tolerance
    low, high = np.percentile(known[agrees], (5, 95)) if agrees.any() else (1.0, 1.0)
    return Line(scale, shift, float(agrees.mean()), float(high / low) if low > 0 else np.inf)


def _candidates(
    estimate: Float[np.ndarray, " N"], known: Float[np.ndarray, " N"], shifted: bool, draws: int = 300
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """Scales and shifts of lines through random pairs of points, or through the origin and random points."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(known), (2, draws))
    with np.errstate(divide="ignore", invalid="ignore"):
        if shifted:
            scale = (known[first] - known[second]) / (estimate[first] - estimate[second])
        else:
            scale = known[first] / estimate[first]
    usable = np.isfinite(scale) & (scale > 0)
    scale, first = scale[usable], first[usable]
    return scale, known[first] - scale * estimate[first] if shifted else np.zeros_like(scale)


def recorded_anchors(view: CameraView, inverse: Float[np.ndarray, "T H W"]) -> Anchors:
    """Pixels with recorded depth, of frames that have any.

    Raises:
        CannotAlign: there is no recorded depth.
    """
    if view.depth is None or view.depth.unit != "m":
        raise CannotAlign("recorded: the camera has no recorded depth in metres")
    frames = _spread(np.arange(view.length), ANCHOR_FRAMES)
    known = _inverse_of(view.depth.some(frames))
    if np.isfinite(known).sum() < 10 * FEWEST["recorded"]:  # there may be more in other frames
        known = _inverse_of(view.depth.read())
        frames = _spread(np.flatnonzero(np.isfinite(known).any(axis=(1, 2))), ANCHOR_FRAMES)
        known = known[frames]
    return _thinned(inverse[frames], known)


def _inverse_of(depth: Float[np.ndarray, "F H W"]) -> Float[np.ndarray, "F H W"]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(depth) & (depth > 0), 1 / depth.astype(np.float64), np.nan)


def plane_anchors(view: CameraView, inverse: Float[np.ndarray, "T H W"], height: float) -> Anchors:
    """Pixels that would see the world's plane z = ``height``.

    Raises:
        CannotAlign: intrinsics or pose are unknown, or the plane is not in view.
    """
    intrinsics, poses = _camera(view, "plane")
    frames = _spread(np.arange(len(inverse)), ANCHOR_FRAMES)
    width, high = view.size
    pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(high) + 0.5), axis=-1)
    rays = lift(np.concatenate([pixels, np.ones((high, width, 1))], axis=-1), intrinsics)
    pose = np.broadcast_to(poses, (view.length, 4, 4))[frames]
    # The change of world z along a ray of depth 1. The ray meets the plane at the depth at which the total change is
    # the plane's height minus the camera's.
    climb = np.einsum("tj,hwj->thw", pose[:, 2, :3], rays)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = climb / (height - pose[:, 2, 3])[:, None, None]
    seen = (known > 1 / FARTHEST) & (known < 1 / NEAREST)
    if not seen.any():
        raise CannotAlign(f"plane: the plane z = {height:g} m of the world is nowhere in view")
    return _thinned(inverse[frames], np.where(seen, known, np.nan))


def robot_anchors(episode: Episode, view: CameraView, inverse: Float[np.ndarray, "T H W"]) -> Anchors:
    """The tool's recorded position, in the frames in which it lies in the picture.

    Raises:
        CannotAlign: intrinsics, pose or the tool's position are unknown, or it is not in view.
    """
    intrinsics, poses = _camera(view, "robot")
    tools = episode.tool_positions
    if tools is None:
        raise CannotAlign("robot: nothing says where the tool is, as x, y, z of the state do")
    in_camera = transform(invert_pose(np.broadcast_to(poses, (view.length, 4, 4))), tools.astype(np.float64))
    uvz = project(in_camera, intrinsics)
    with np.errstate(invalid="ignore"):
        inside = ((uvz[..., :2] >= 0) & (uvz[..., :2] < view.size)).all(axis=-1)
        inside &= (uvz[..., 2] > NEAREST) & (uvz[..., 2] < FARTHEST)
    tool, frame = np.nonzero(inside)
    if len(frame) == 0:
        raise CannotAlign("robot: the tool is nowhere in view")
    column, row = np.floor(uvz[tool, frame, :2]).astype(int).T
    estimate, known = inverse[frame, row, column].astype(np.float64), 1 / uvz[tool, frame, 2]
    usable = np.isfinite(estimate)
    return Anchors(estimate[usable], known[usable])


def _camera(view: CameraView, method: str) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "P 4 4"]]:
    if view.intrinsics is None or view.world_from_camera is None:
        raise CannotAlign(f"{method}: the camera's intrinsics or pose are not known")
    return view.intrinsics, view.world_from_camera


def _spread(values: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of the values, evenly spread."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(len(values), count)).round().astype(int))]


def _thinned(inverse: Float[np.ndarray, "F H W"], known: Float[np.ndarray, "F H W"]) -> Anchors:
    """At most ``MOST_ANCHORS`` of the pixels that have both values, drawn with a fixed seed.

    A least squares line takes noise of the estimate for range of it, and comes out too flat. So the pairs that it is
    fitted to are medians over the frames in which the pixel is known to be as far as in its own.
    """
    usable = np.flatnonzero(np.isfinite(inverse) & np.isfinite(known))
    if len(usable) > MOST_ANCHORS:
        usable = np.sort(np.random.default_rng(0).choice(usable, MOST_ANCHORS, replace=False))
    if len(usable) == 0:
        return Anchors(np.empty(0), np.empty(0))
    frame, pixel = np.divmod(usable, known[0].size)
    series = [a.reshape(len(a), -1)[:, pixel].astype(np.float64) for a in (inverse, known)]
    estimate, own = (a[frame, np.arange(len(pixel))] for a in series)
    with np.errstate(invalid="ignore"):
        alike = np.isfinite(series[0]) & (np.abs(series[1] - own) <= TOLERANCE * own)
    return Anchors(estimate, own, np.stack([np.nanmedian(np.where(alike, a, np.nan), axis=0) for a in series]))
