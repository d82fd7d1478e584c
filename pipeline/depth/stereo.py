"""Depth of a stereo camera in metres: semi-global matching of its two rectified images (Hirschmüller 2008, OpenCV's).

A point at column u of the left picture is at u - d of the right one; its depth is focal length times baseline over d.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from pipeline.depth._validity import bounds, check_varies
from pipeline.episodes.spill import blocks, empty, in_turn, release
from schemas.cameras import intrinsics_from_fov
from schemas.episode import BadEpisode, CameraView, Episode
from schemas.perception import DepthMaps

STEPS = 16
"""Disparities are found in steps of a sixteenth of a pixel, and searched in multiples of sixteen."""
FEWEST = 0.05
"""Share of the pixels that must have a match in the other eye."""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        nearest: smallest depth in metres that is searched for; nearer things get no depth. Half of it takes twice the
            time.
        farthest: metres beyond which depth counts as unknown; the disparity's resolution (1/16 px) is too coarse there.
        block: side of the squares that are compared, in pixels, odd.
        disagree: largest difference in pixels between the disparities of the left and the right eye; above it the
            place counts as hidden from one of them.
        fov_y: vertical field of view in degrees, for recordings that give no intrinsics; None to refuse those.
    """

    nearest: float = 0.25
    farthest: float = 10.0
    block: int = 5
    disagree: int = 1
    fov_y: float | None = None

    def __post_init__(self) -> None:
        if self.block < 1 or self.block % 2 == 0:
            raise ValueError(f"stereo.block must be odd and 1 or more, found {self.block}")
        if not 0 < self.nearest < self.farthest:
            raise ValueError(
                f"stereo.nearest must lie between 0 and farthest, found {self.nearest} and {self.farthest}"
            )
        if self.disagree < 0:
            raise ValueError(f"stereo.disagree must be 0 or more, found {self.disagree}")
        if self.fov_y is not None and not 0 < self.fov_y < 180:
            raise ValueError(f"stereo.fov_y lies between 0 and 180 degrees, found {self.fov_y:g}")


def build(config: Config) -> "StereoDepth":
    """The estimator."""
    return StereoDepth(config)


class StereoDepth:
    """See ``pipeline.depth.DepthEstimator``."""

    needs_all_frames = True

    def __init__(self, config: Config):
        self.config = config

    def estimate(self, episode: Episode, view: CameraView, long: bool = False) -> DepthMaps:
        """Depth of the left eye; NaN where no match is found, or only one eye sees the place.

        Raises:
            BadEpisode: the camera has one eye or no intrinsics, or the images of its eyes do not match each other.
        """
        if view.stereo is None:
            raise BadEpisode(
                "no_stereo",
                f"camera {view.name} has one eye; --depth stereo is for recordings with both, as DROID's raw ones",
            )
        intrinsics = view.intrinsics
        if intrinsics is None:
            if self.config.fov_y is None:
                raise BadEpisode(
                    "no_intrinsics",
                    f"camera {view.name} has no intrinsics, which stereo depth needs; give its vertical field of "
                    "view with --depth-options "
                    "fov_y=DEGREES",
                )
            intrinsics = intrinsics_from_fov(self.config.fov_y, *view.size)
        reach = float(intrinsics[0, 0]) * view.stereo.baseline_m
        if not (np.isfinite(reach) and reach > 0):
            raise BadEpisode(
                "bad_stereo", f"camera {view.name}: focal length times baseline must be above 0, found {reach:g}"
            )
        depth = empty((view.length, *view.size[::-1]), np.float32, long)
        middle, swapped = view.length // 2, 0.0
        for numbers in blocks(view.length) if long else (np.arange(view.length),):
            left, right = _both_eyes(view, numbers, long)
            depth[numbers] = self._depth(left, right, reach)
            release(depth)
            if middle in numbers:
                here = slice(middle - numbers[0], middle - numbers[0] + 1)
                swapped = float(np.isfinite(self._depth(right[here], left[here], reach)).mean())
        share = sum(int(np.isfinite(frame).sum()) for frame in in_turn(depth)) / depth.size
        if share < FEWEST:
            raise BadEpisode(
                "bad_stereo",
                f"camera {view.name}: {share:.1%} of the pixels find their like in the right eye, at least "
                f"{FEWEST:.0%} are needed; "
                "are the eyes of one moment, and rectified?",
            )
        if swapped > np.isfinite(depth[middle]).mean():
            raise BadEpisode("bad_stereo", f"camera {view.name}: the eyes match better when they are swapped")
        check_varies(view.name, *bounds(depth), "stereo")
        return DepthMaps(depth, "m", f"stereo: semi-global matching, baseline {view.stereo.baseline_m:g} m")

    def _depth(
        self, left: UInt8[np.ndarray, "T H W 3"], right: UInt8[np.ndarray, "T H W 3"], reach: float
    ) -> Float[np.ndarray, "T H W"]:
        """Depth of every frame.

        Args:
            reach: focal length in pixels times baseline in metres.
        """
        import cv2

        matcher = self._matcher(reach, left.shape[2])
        margin = matcher.getNumDisparities()  # the matcher skips this many columns on the left: pad there
        columns = np.arange(left.shape[2], dtype=np.float32)
        depth = np.empty(left.shape[:3], np.float32)
        for frame, pair in enumerate(zip(left, right, strict=True)):
            grey = [
                cv2.copyMakeBorder(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), 0, 0, margin, 0, cv2.BORDER_REPLICATE)
                for p in pair
            ]
            disparity = matcher.compute(*grey)[:, margin:].astype(np.float32) / STEPS
            seen = (disparity > reach / self.config.farthest) & (disparity <= columns)
            with np.errstate(divide="ignore", invalid="ignore"):
                depth[frame] = np.where(seen, reach / disparity, np.nan)
        return depth

    def _matcher(self, reach: float, width: int):
        import cv2

        farther = min(reach / self.config.nearest, width - STEPS)
        area = self.config.block**2
        return cv2.StereoSGBM.create(
            minDisparity=0,
            numDisparities=max(int(np.ceil(farther / STEPS)), 1) * STEPS,
            blockSize=self.config.block,
            P1=8 * area,  # OpenCV's own advice for pictures of one channel
            P2=32 * area,
            disp12MaxDiff=self.config.disagree,
            uniquenessRatio=10,
            speckleWindowSize=50,
            speckleRange=1,
            mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,  # half the time of the five-way mode, equally accurate
        )


def _both_eyes(
    view: CameraView, numbers: Int[np.ndarray, " N"], long: bool
) -> tuple[UInt8[np.ndarray, "N H W 3"], UInt8[np.ndarray, "N H W 3"]]:
    """Frames of the left and the right eye; all of them unless the episode is long.

    Raises:
        BadEpisode: they differ in number or size.
    """
    assert view.stereo is not None, "the caller has looked"
    left = view.some_frames(numbers) if long else view.frames
    right = view.stereo.some(numbers) if long else view.stereo.read_right()
    if left.shape != right.shape:
        raise BadEpisode(
            "bad_stereo", f"camera {view.name}: the left eye has frames {left.shape}, the right one {right.shape}"
        )
    return left, right
