"""CoTracker3 (Karaev et al. 2024), as its authors publish it through torch.hub; for research only, by its licence.

The windows of an episode overlap, and the model processes all frames of a call at once. So the points of all windows
that fit into ``clip`` frames are tracked in one call, which encodes each frame only once. Points that do not fit into
the memory are tracked in further calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.trackers._cotracker_model import TRAINED_SIZE, Origin
from pipeline.vision.auto_batch import ShrinkingBatches
from schemas.devices import choose_device
from schemas.perception import Tracks2D

LICENCE = "CC-BY-NC 4.0 (CoTracker3, code and weights): for non-commercial use, and so is what is made with it"
LIBRARIES = ("torch",)
BYTES = 265_000
"""Memory that a point takes in a frame, in float32: 400 points in 32 frames were measured at 3.4 GB."""
FEWEST_FRAMES = 2


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        mode: ``offline`` uses frames before and after; ``online`` processes the clip in order with bounded memory.
        repo: folder with a clone of CoTracker3's code; None to fetch the published one.
        weights: file with its weights; None to fetch the published ones.
        clip: frames in one call of the model, at least; it was trained on up to 60. A longer horizon makes it longer.
        memory_gb: memory limit for the points of one call; more points are tracked in several calls. Points of a call
            influence each other, so it changes the last digits.
        support: rows and columns of an extra coarse grid that is tracked and discarded; it gives the model context
            when there are few points.
        device: ``auto`` takes a GPU when there is one; else cpu, cuda or cuda:N. In bfloat16 on a GPU.
    """

    mode: Literal["offline", "online"] = "offline"
    repo: str | None = field(default=None, metadata={"contents": True})
    weights: str | None = field(default=None, metadata={"contents": True})
    clip: int = 60
    memory_gb: float = 8.0
    support: int = 6
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.mode not in ("offline", "online"):
            raise ValueError(f"cotracker3.mode must be offline or online, found {self.mode!r}")
        if self.clip < 16:
            raise ValueError(f"cotracker3.clip must be 16 or more, found {self.clip}")
        if not self.memory_gb > 0:
            raise ValueError(f"cotracker3.memory_gb must be above 0, found {self.memory_gb:g}")
        if self.support < 0:
            raise ValueError(f"cotracker3.support must be 0 or more, found {self.support}")

    @property
    def origin(self) -> Origin:
        """Where code and weights come from."""
        return Origin(self.mode, self.repo, self.weights)

    def points(self, frames: int) -> int:
        """Largest number of points in one call with so many frames."""
        return max(int(self.memory_gb * 1e9 / (BYTES * frames)), 1)


def check(config: Config) -> None:
    """Download code and weights if needed, and check that they fit each other.

    Raises:
        MissingDependency: they cannot be found or downloaded, or do not fit.
    """
    config.origin.load()


def build(config: Config) -> "CoTracker":
    """The tracker.

    Raises:
        MissingDependency: its code or weights cannot be found or downloaded, or do not fit each other.
        ValueError: there is no such device.
    """
    import torch

    predictor = config.origin.load()
    device = choose_device(config.device)
    if device.type == "cpu":
        torch.set_num_threads(1)  # one core per worker, and the same sums everywhere
    return CoTracker(config, predictor.to(device), device)


class CoTracker:
    """See ``pipeline.trackers.Tracker``."""

    def __init__(self, config: Config, predictor: Any, device: Any):
        self.config, self.predictor, self.device = config, predictor, device
        height, width = getattr(predictor, "interp_shape", TRAINED_SIZE)
        self.size = (int(height), int(width))

    def track(
        self,
        frames: UInt8[np.ndarray, "T H W 3"],
        references: Sequence[int],
        keypoints: Float[np.ndarray, "K 2"],
        horizon: int,
    ) -> list[Tracks2D]:
        """See ``pipeline.trackers.Tracker.track``.

        Raises:
            BuildError: a single point does not fit into the GPU's memory.
        """
        tracks = []
        for group in clips(references, horizon, self.config.clip):
            last = min(group[-1] + horizon, len(frames) - 1)
            tracks += self._track_clip(frames[group[0] : last + 1], group, keypoints, horizon)
        return tracks

    def _track_clip(
        self, frames: np.ndarray, references: list[int], keypoints: np.ndarray, horizon: int
    ) -> list[Tracks2D]:
        """Track the windows of one clip; its first frame is the first reference frame."""
        height, width = frames.shape[1:3]
        to_model = np.array(self.size[::-1]) / [width, height]
        starts = np.repeat(np.array(references) - references[0], len(keypoints))
        # CoTracker puts the centre of the first pixel at 0, this project at 0.5.
        queries = np.column_stack([starts, np.tile(keypoints * to_model - 0.5, (len(references), 1))])
        video = self._video(frames)
        uv = np.empty((len(queries), len(frames), 2))
        seen = np.empty((len(queries), len(frames)), bool)
        batches = ShrinkingBatches(
            self.config.points(len(video)), "cotracker3: use a smaller clip, or device=cpu, and wait"
        )
        for first, (where, visible) in batches.run(partial(self._ask, video), queries):
            rows = slice(first, first + len(where))
            uv[rows], seen[rows] = (where[:, : len(frames)] + 0.5) / to_model, visible[:, : len(frames)]
        seen &= ((uv >= 0) & (uv < [width, height])).all(axis=-1)
        count = len(keypoints)
        return [
            _window(reference, reference - references[0], keypoints, uv[rows], seen[rows], horizon)
            for rows, reference in ((slice(i * count, (i + 1) * count), r) for i, r in enumerate(references))
        ]

    def _video(self, frames: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "S h w 3"]:
        """The frames at the size at which the model was trained; a clip that is too short for it is padded with its
        last frame.
        """
        import cv2

        height, width = self.size
        kind = cv2.INTER_AREA if frames.shape[1] > height or frames.shape[2] > width else cv2.INTER_LINEAR
        sized = [cv2.resize(frame, (width, height), interpolation=kind) for frame in frames]
        needed = FEWEST_FRAMES if self.config.mode == "offline" else 2 * self.predictor.step
        return np.stack(sized + [sized[-1]] * max(needed - len(sized), 0))

    def _ask(
        self, video: UInt8[np.ndarray, "S H W 3"], queries: Float[np.ndarray, "N 3"]
    ) -> tuple[Float[np.ndarray, "N S 2"], Bool[np.ndarray, "N S"]]:
        """Positions and visibility of points (frame, x, y) in every frame, in the model's px."""
        import torch

        asked = np.concatenate([queries, self._support(queries)])
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            points = torch.from_numpy(asked.astype(np.float32)).to(self.device)[None]
            # Transferred as bytes and converted on the device to the floats 0..255 that the model expects.
            clip = torch.from_numpy(video).to(self.device).permute(0, 3, 1, 2)[None].float()
            tracks, visible = (
                self._offline(clip, points) if self.config.mode == "offline" else self._online(clip, points)
            )
        where = tracks[0, :, : len(queries)].float().cpu().numpy().transpose(1, 0, 2).astype(np.float64)
        return where, visible[0, :, : len(queries)].bool().cpu().numpy().transpose(1, 0)

    def _offline(self, clip: Any, points: Any) -> tuple[Any, Any]:
        return self.predictor(clip, queries=points)

    def _online(self, clip: Any, points: Any) -> tuple[Any, Any]:
        """Process overlapping pieces in order; each result covers all frames so far."""
        step = self.predictor.step
        self.predictor(video_chunk=clip[:, : 2 * step], is_first_step=True, queries=points)
        answer = None
        for start in range(0, clip.shape[1] - step, step):
            answer = self.predictor(video_chunk=clip[:, start : start + 2 * step])
        assert answer is not None, "a clip has at least two steps"
        return answer

    def _support(self, queries: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "M 3"]:
        """A coarse grid of points on the frame of the first query."""
        count, (height, width) = self.config.support, self.size
        x, y = ((np.arange(count) + 0.5) * side / count - 0.5 for side in (width, height))
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        return np.column_stack([np.full(len(grid), queries[0, 0]), grid])


def clips(references: Sequence[int], horizon: int, frames: int) -> list[list[int]]:
    """Reference frames in groups whose windows fit into so many frames; at least one per group."""
    groups: list[list[int]] = []
    for reference in references:
        if groups and reference + horizon < groups[-1][0] + frames:
            groups[-1].append(reference)
        else:
            groups.append([reference])
    return groups


def _window(
    reference: int,
    start: int,
    keypoints: Float[np.ndarray, "K 2"],
    uv: Float[np.ndarray, "K S 2"],
    seen: Bool[np.ndarray, "K S"],
    horizon: int,
) -> Tracks2D:
    """One window's tracks, cut from those of the clip: a point that is not seen keeps its last position; steps after
    the clip's end are not seen.
    """
    place = np.repeat(keypoints[:, None], horizon + 1, axis=1).astype(np.float64)
    visible = np.zeros((len(keypoints), horizon + 1), bool)
    visible[:, 0] = True
    for step in range(1, horizon + 1):
        place[:, step] = place[:, step - 1]
        if start + step < uv.shape[1]:
            visible[:, step] = seen[:, start + step]
            place[visible[:, step], step] = uv[visible[:, step], start + step]
    return Tracks2D(reference, place, visible)
