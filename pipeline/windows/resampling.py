"""Resamples flow to a fixed duration instead of a fixed number of frames: recordings have 5 to 30 frames per second.

Positions between two frames are interpolated in the reference camera, linearly in space, which is exact for a point of
constant velocity. A position is visible, valid and free of holes only if it is so in both frames. Where steps are
longer than a frame the frames between them are skipped, but a depth edge that a point touched in one of them is kept.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.vision.lift import LiftedTracks
from schemas.triplet import Resampling

NEAR = 1e-6
"""In frames; a step closer than this to a frame is set to it, so that rounding of seconds has no effect."""


@dataclass(frozen=True)
class StepTimes:
    """The times of the steps of flow.

    Attributes:
        frames: time of each step 0..T, in frames after the reference frame, with fractions.
        per_second: steps per second.
        resampled: the sample's resampling entry; None where each step is a frame.
    """

    frames: Float[np.ndarray, " S"]
    per_second: float
    resampled: Resampling | None

    @property
    def reach(self) -> int:
        """Frames after the reference frame that must be followed."""
        return math.ceil(self.frames[-1])

    def within(self, remaining: int) -> int:
        """How many steps after the reference frame lie within an episode with ``remaining`` frames after it."""
        return int(np.searchsorted(self.frames, remaining, side="right")) - 1


def step_times(horizon: int, seconds: float | None, fps: float) -> StepTimes:
    """``horizon`` steps over ``seconds``; one step per frame where ``seconds`` is None."""
    if seconds is None:
        return StepTimes(np.arange(horizon + 1.0), fps, None)
    frames = np.arange(horizon + 1) * (seconds * fps / horizon)
    whole = np.rint(frames)
    frames = np.where(np.abs(frames - whole) < NEAR, whole, frames)
    if np.array_equal(frames, np.arange(horizon + 1)):
        return StepTimes(frames, fps, None)
    how = "frames passed over" if np.array_equal(frames, whole) else "interpolated"
    said = f"{horizon} steps over {seconds:g} s from {fps:g} fps, {how}"
    return StepTimes(frames, horizon / seconds, Resampling(seconds / horizon, said))


def no_steps(fps: float) -> StepTimes:
    """The times of windows without flow: the reference frame alone."""
    return StepTimes(np.zeros(1), fps, None)


def resample(lifted: LiftedTracks, times: StepTimes) -> LiftedTracks:
    """Resample flow tracked frame by frame over ``times.reach`` frames to the times of the steps."""
    if times.resampled is None:
        return lifted
    lower, upper = np.floor(times.frames).astype(int), np.ceil(times.frames).astype(int)
    flow = lifted.flow.at(times.frames)
    return LiftedTracks(
        flow=flow,
        hole=(lifted.hole[:, lower] | lifted.hole[:, upper]) & flow.visible,
        edge=_since_last_step(lifted.edge, lower, upper),
        carried=None if lifted.carried is None else lifted.carried[:, lower] | lifted.carried[:, upper],
        joints=lifted.joints,
        exact=lifted.exact,
    )


def _since_last_step(edge: Bool[np.ndarray, "K N"], lower: np.ndarray, upper: np.ndarray) -> Bool[np.ndarray, "K S"]:
    """Whether a point touched an edge after the previous step, or at this one."""
    made = np.zeros((len(edge), len(lower)), bool)
    first = 0
    for step, (low, high) in enumerate(zip(lower, upper, strict=True)):
        made[:, step] = edge[:, min(first, low) : high + 1].any(axis=1)
        first = low + 1
    return made
