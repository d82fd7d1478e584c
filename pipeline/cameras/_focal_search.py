"""Estimates intrinsics that were not recorded: with the wrong focal length no rigid motion fits tracks and depth.

The focal length can be found if the camera rotates, or if depth changes while things rotate. It cannot be found if the
camera only translates; the episode is then refused. Square pixels and an optical axis through the image centre are
assumed.
"""

import numpy as np
from jaxtyping import Float

from pipeline.cameras._clip import Clip
from pipeline.cameras._corners import area_weights
from pipeline.cameras._keyframe_tracking import CELLS
from pipeline.cameras._ransac_pose import AGREES, Noise, Sighting, find_motion, misfit, noise_shown, residuals_of
from pipeline.vision.lucas_kanade import Matching, match
from schemas.cameras import intrinsics_from_fov, lift
from schemas.episode import BadEpisode

FIELDS = np.geomspace(18.0, 110.0, 12)
"""Vertical fields of view in degrees that are tried first."""
PAIRS = 4
"""Number of pairs of frames that are used."""
APART = 0.05
"""Share of the image's width by which the background must move between the two frames of a pair."""
LONGEST = 24
"""Frames between them, at most."""
FEWEST = 24
LOOSER = 2.0
"""Times the noise of the median point that is allowed for in the second look; the tails are heavier than a bell."""
NARROWED = 6
"""Times that the bracket around the best field of view is narrowed, to 6% of what it was."""
TELLS = 1.15
"""A focal length a quarter longer or shorter must fit worse by this factor; otherwise the clip is refused."""


def estimated_intrinsics(clip: Clip, noise: Noise) -> tuple[Float[np.ndarray, "3 3"], str]:
    """Intrinsics, and how they were found, in words.

    Args:
        clip: its depth must have one scale for all frames and no shift.
        noise: of the measurements.

    Raises:
        BadEpisode: ``no_intrinsics``: the clip does not determine them.
    """
    width, height = clip.size
    refusal = BadEpisode(
        "no_intrinsics",
        f"camera {clip.name} has no intrinsics, and its motion does not say what they are; give its vertical field "
        "of view with "
        "--camera-options fov_y=DEGREES",
    )
    if clip.unit != "m":
        raise refusal
    sightings = _pairs(clip)
    if not sightings:
        raise refusal

    def cost(fov: float) -> float:
        return _cost(sightings, intrinsics_from_fov(fov, width, height), noise)

    costs = [cost(fov) for fov in FIELDS]
    best = int(np.argmin(costs))
    if best in (0, len(FIELDS) - 1):
        raise refusal
    # Repeated with the noise estimated from the residuals: with less noise the clip determines the result better.
    noise = _noise_at(sightings, intrinsics_from_fov(FIELDS[best], width, height), noise)
    fov = _smallest(cost, FIELDS[best - 1], FIELDS[best + 1])
    if min(cost(_with_focal(fov, 1.25)), cost(_with_focal(fov, 0.8))) < TELLS * cost(fov):
        raise refusal
    return (
        intrinsics_from_fov(fov, width, height),
        f"vertical field of view of {fov:.1f} degrees, estimated from tracks and depth of {len(sightings)} pairs of "
        "frames",
    )


def _with_focal(fov: float, by: float) -> float:
    """The field of view after the focal length is multiplied by ``by``."""
    return float(np.degrees(2 * np.arctan(np.tan(np.radians(fov) / 2) / by)))


def _noise_at(sightings: list[Sighting], intrinsics: Float[np.ndarray, "3 3"], noise: Noise) -> Noise:
    residuals = []
    for sighting in sightings:
        motion, agree, _ = find_motion(sighting, intrinsics, noise, np.eye(4)[None])
        first = lift(sighting.uvz, intrinsics)
        residuals.append(residuals_of(motion, first[agree], sighting.seen[agree], intrinsics))
    found = noise_shown(np.concatenate(residuals), noise)
    return Noise(min(noise.px, LOOSER * found.px), min(noise.depth, LOOSER * found.depth))


def _pairs(clip: Clip) -> list[Sighting]:
    """Corners of a few frames, matched in a frame some time later, with enough motion between the two."""
    sightings = []
    for start in np.unique(np.linspace(0, max(clip.length - 2, 0), PAIRS).astype(int)).tolist():
        uvz = clip.corners(start, CELLS)
        here, alive = uvz[:, :2].copy(), np.ones(len(uvz), bool)
        for frame in range(start + 1, min(start + 1 + LONGEST, clip.length)):
            rows = np.flatnonzero(alive)
            here[rows], alive[rows] = match(clip.grey(frame - 1), clip.grey(frame), here[rows], Matching())
            if alive.sum() < FEWEST:
                break
            moved = np.median(np.linalg.norm(here - uvz[:, :2], axis=1)[alive])
            if moved > APART * clip.size[0]:
                z, usable = clip.sample(frame, here)
                good = alive & usable
                if good.sum() >= FEWEST:
                    seen = np.concatenate([here, z[:, None]], axis=1)[good]
                    sightings.append(Sighting(uvz[good], seen, area_weights(uvz[good, 2])))
                break
    return sightings


def _cost(sightings: list[Sighting], intrinsics: Float[np.ndarray, "3 3"], noise: Noise) -> float:
    """Misfit of the best rigid motions with these intrinsics; each point's error is capped."""
    total = 0.0
    for sighting in sightings:
        motion, _, _ = find_motion(sighting, intrinsics, noise, np.eye(4)[None])
        error = misfit(motion[None], lift(sighting.uvz, intrinsics), sighting.seen, intrinsics, noise)[0]
        total += float((np.minimum(error, AGREES**2) * sighting.weight).sum() / sighting.weight.sum())
    return total / len(sightings)


def _smallest(cost, low: float, high: float) -> float:
    """The minimum of a cost between two bounds, by golden-section search."""
    golden = (5**0.5 - 1) / 2
    for _ in range(NARROWED):
        a, b = high - golden * (high - low), low + golden * (high - low)
        if cost(a) < cost(b):
            high = b
        else:
            low = a
    return (low + high) / 2
