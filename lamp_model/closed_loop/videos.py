"""Videos of episodes, with the motion that the policy imagined drawn over them."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from schemas.files import written_whole
from schemas.scene_flow import keypoint_grid

SIDE = 384
"""Height of a video in pixels; small pictures are enlarged so that the drawn flow is fine."""
MOVES = 0.02
"""Least length of an imagined path, as a fraction of the image, to be drawn: most of a scene stands still."""
AWAY, TOWARDS, LEVEL = (21, 101, 216), (255, 90, 0), (247, 245, 240)
"""RGB of points that move away from the camera, towards it, and neither; as in ``lamp-data inspect``."""
DEPTH_STEP = 0.01
"""Least change of depth that is coloured."""


@dataclass(frozen=True)
class Recording:
    """An episode as ``simulation.recording`` wrote it.

    Attributes:
        frames: upright, as a person would see the scene.
        steps: actions carried out before each frame.
        motion: of each prediction: increments (du, dv, dz) of the keypoint grid, in these frames.
        motion_steps: when each prediction was made.
    """

    frames: UInt8[np.ndarray, "N H W 3"]
    steps: np.ndarray
    motion: Float[np.ndarray, "P K T 3"] | None
    motion_steps: np.ndarray


def read_recording(path: Path, mirrored: bool) -> Recording:
    """Read a recording.

    Args:
        mirrored: the benchmark gives mirrored pictures; they, and the motion in them, are mirrored back.
    """
    with np.load(path, allow_pickle=False) as stored:
        frames = stored["frames"][:, :, ::-1] if mirrored else stored["frames"]
        motion = stored["motion"].astype(np.float32) if "motion" in stored else None
        if mirrored and motion is not None:
            motion = _mirrored(motion)
        motion_steps = stored["motion_steps"] if motion is not None else np.zeros(0, int)
        return Recording(np.ascontiguousarray(frames), stored["steps"], motion, motion_steps)


def _mirrored(motion: Float[np.ndarray, "P K T 3"]) -> Float[np.ndarray, "P K T 3"]:
    """The same motion in the mirrored image: each row of keypoints from its other end, u with the other sign."""
    predictions, points, horizon, _ = motion.shape
    grid = round(points**0.5)
    rows = motion.reshape(predictions, grid, grid, horizon, 3)[:, :, ::-1]
    return (rows * np.array([-1, 1, 1], np.float32)).reshape(predictions, points, horizon, 3)


def write_video(path: Path, recording: Recording, control_hz: float = 20.0, speed: float = 2.0) -> None:
    """Write an H.264 video with the imagined paths over each frame; it is whole or absent.

    Args:
        control_hz: actions a second, so that the video runs at ``speed`` times the robot's own.
    """
    import av

    between = float(np.median(np.diff(recording.steps))) if len(recording.steps) > 1 else 1.0
    rate = Fraction(max(1.0, speed * control_hz / between)).limit_denominator(100)
    with written_whole(path) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "23", "movflags": "faststart"})
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = drawn_frame(recording, 0).shape[:2]
        for place in range(len(recording.frames)):
            picture = drawn_frame(recording, place)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def drawn_frame(recording: Recording, place: int) -> UInt8[np.ndarray, "h w 3"]:
    """One frame, enlarged, with the paths of the prediction that was being carried out and the step's number."""
    import cv2

    frame, step = recording.frames[place], int(recording.steps[place])
    height = SIDE
    width = 2 * round(SIDE * frame.shape[1] / frame.shape[0] / 2)  # H.264 takes even sizes
    picture = np.ascontiguousarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR))
    made = np.flatnonzero(recording.motion_steps <= step)
    if recording.motion is not None and made.size:
        latest = int(made[-1])
        _draw_paths(picture, recording.motion[latest], step - int(recording.motion_steps[latest]))
    cv2.putText(
        picture, f"step {step}", (8, height - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA
    )
    return picture


def _draw_paths(picture: UInt8[np.ndarray, "h w 3"], motion: Float[np.ndarray, "K T 3"], elapsed: int) -> None:
    """Draw the path of each point that is imagined to move, and a dot where it was to be after ``elapsed`` steps."""
    import cv2

    height, width = picture.shape[:2]
    grid = round(len(motion) ** 0.5)
    start = keypoint_grid(width, height, grid)
    path = np.concatenate([np.zeros_like(motion[:, :1]), np.cumsum(motion, axis=1)], axis=1)
    length = np.linalg.norm(np.diff(path[..., :2], axis=1), axis=-1).sum(axis=1)
    places = start[:, None] + path[..., :2] * (width, height)
    for point in np.flatnonzero(length > MOVES):
        change = float(path[point, -1, 2])
        colour = LEVEL if abs(change) < DEPTH_STEP else AWAY if change > 0 else TOWARDS
        line = np.round(places[point] * 8).astype(np.int32)  # eighths of a pixel
        cv2.polylines(picture, [line], False, colour, 1, cv2.LINE_AA, shift=3)
        now = line[min(elapsed, len(line) - 1)]
        cv2.circle(picture, (int(now[0]), int(now[1])), 16, colour, -1, cv2.LINE_AA, shift=3)
