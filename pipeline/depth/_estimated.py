"""Depth from pictures by a model: what its kinds have in common."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.depth._checks import check_inverse
from pipeline.depth._models import DepthModel, Precision, Weights
from pipeline.depth._steadying import steady
from pipeline.depth_alignment import CannotAlign, Method, align
from schemas.episode import BadEpisode, CameraView, Episode
from schemas.perception import DepthAlignment, DepthMaps

SMALLEST = 64
"""Pixels of height below which no network sees anything."""
LOOKED_AT = 64
"""Frames that are decoded at a time."""
FARTHEST_M = 50.0
"""Metres beyond which depth counts as unknown: there an aligned line has crossed zero, or soon will."""
FARTHEST_RELATIVE = 50.0
"""The same for relative depth, in medians."""
SAID = {"recorded": "recorded depth", "plane": "the table's plane", "robot": "the robot's tool"}
"""An alignment in words; its figures differ from episode to episode and stand in ``DepthAlignment``."""


@dataclass(frozen=True)
class EstimatorConfig:
    """Settings of every depth model.

    Attributes:
        weights: a name on the Hugging Face hub or a folder that holds a copy; None for the published ones.
        revision: of the hub's repository; None for the pinned one.
        resolution: height in pixels that pictures are scaled to for the network; None for the published one. Time goes with its square.
        batch_size: frames at a time; halved by itself when a GPU's memory runs out.
        device: auto takes a GPU when there is one; else cpu, cuda or cuda:N.
        precision: auto is float16 on a GPU and float32 on a CPU.
        align: what depth is brought to metres by: recorded depth, the table's plane or the robot's tool; auto takes the first that the
            episode offers, and leaves depth as it is where there is none; a named one must be there.
        table_height: z of the table in the world, metres; None for 0 with align=plane, and for no use of the plane with align=auto.
        steady: where a camera stands still, frames are brought to the clip's median first, and places that look the same keep its depth.
    """

    weights: str | None = field(default=None, metadata={"contents": True})
    revision: str | None = None
    resolution: int | None = None
    batch_size: int = 8
    device: str = "auto"
    precision: Precision = "auto"
    align: Literal["auto", "recorded", "plane", "robot", "none"] = "auto"
    table_height: float | None = None
    steady: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, found {self.batch_size}")
        if self.resolution is not None and self.resolution < SMALLEST:
            raise ValueError(f"resolution must be {SMALLEST} or more, found {self.resolution}")
        if self.table_height is not None and self.align not in ("auto", "plane"):
            raise ValueError(f"table_height is for align=plane or align=auto, found align={self.align}")

    def methods(self) -> Sequence[Method]:
        """Ways of alignment in the order in which they are tried."""
        if self.align == "auto":
            return ("recorded", "robot") if self.table_height is None else ("recorded", "plane", "robot")
        return () if self.align == "none" else (self.align,)


def build_estimator(config: EstimatorConfig, weights: Weights) -> "EstimatedDepth":
    """The estimator that a config describes.

    Raises:
        MissingWeights: the weights cannot be loaded.
        ValueError: there is no such device.
    """
    return EstimatedDepth(
        config, DepthModel(weights, config.device, config.precision, config.batch_size, config.resolution)
    )


@runtime_checkable
class InverseDepthModel(Protocol):
    """Sees frames one by one.

    Attributes:
        name: what a sample says of it.
        metric: whether it gives 1/m; else inverse depth up to scale and shift.
    """

    name: str
    metric: bool

    def inverse_depth(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, "T H W"]:
        """Inverse depth at every pixel, in an array that the caller may change."""
        ...


Allocate = Callable[[tuple[int, ...], type], np.ndarray]
"""Makes an array of a shape and type."""


@dataclass(frozen=True)
class WholeDepth:
    """The depth of an episode that is gone through in pieces.

    Attributes:
        episode: its digest.
        camera: the view's name.
        row: of each frame, by its number in the source files.
    """

    episode: str
    camera: str
    row: dict[int, int]
    maps: DepthMaps


class EstimatedDepth:
    """See ``pipeline.depth.DepthEstimator``."""

    def __init__(self, config: EstimatorConfig, model: InverseDepthModel):
        self.config, self.model = config, model
        self._whole: WholeDepth | None = None

    def estimate(self, episode: Episode, view: CameraView) -> DepthMaps:
        """Depth of every frame: metres where the model gives them or something to align to is there, else relative.

        A piece of an episode that was seen whole gets its part of that.

        Raises:
            BadEpisode: the model's answer is unusable, or what ``align`` names is not there.
            BuildError: a single frame does not fit into the GPU's memory.
        """
        whole = self._whole
        if whole is not None and (whole.episode, whole.camera) == (episode.ref.digest, view.name):
            numbers = [episode.source_frame(frame) for frame in range(view.length)]
            rows = [whole.row[number] for number in numbers if number in whole.row]
            if len(rows) == view.length:
                return replace(whole.maps, depth=np.array(whole.maps.depth[rows]))
        self._whole = None
        return self._estimate(episode, view, _in_memory)

    def see_whole(self, episode: Episode, view: CameraView) -> None:
        """Estimate the depth of an episode that will be asked for in pieces: each frame once, and one alignment for all of them.

        Depth lies in a temporary file, so that memory does not grow with the episode.

        Raises:
            BadEpisode, BuildError: as ``estimate``.
        """
        maps = self._estimate(episode, view, _on_disk)
        row = {episode.source_frame(frame): frame for frame in range(view.length)}
        self._whole = WholeDepth(episode.ref.digest, view.name, row, maps)

    def _estimate(self, episode: Episode, view: CameraView, allocate: Allocate) -> DepthMaps:
        """Depth of every frame, in an array made by a function of shape and type."""
        inverse, grey = self._look(view, allocate)
        check_inverse(view.name, inverse)
        source = f"{self.model.name}, {'metric' if self.model.metric else 'relative'}"
        if grey is not None:
            steady(inverse, grey, shifted=not self.model.metric)
            source += ", steadied"
        alignment = self._align(episode, view, inverse)
        if alignment is not None:
            for frame in inverse:
                frame *= np.float32(alignment.scale)
                frame += np.float32(alignment.shift)
            return DepthMaps(
                _depth(inverse, FARTHEST_M), "m", f"{source}, aligned to {SAID[alignment.method]}", alignment
            )
        if self.model.metric:
            return DepthMaps(_depth(inverse, FARTHEST_M), "m", f"{source}, not aligned")
        middle = np.float32(np.nanmedian(inverse[:: max(len(inverse) // 16, 1)]))
        if middle <= 0:
            raise BadEpisode("depth_infinite", f"camera {view.name}: half of the estimated depth is infinitely far")
        for frame in inverse:
            frame /= middle
        return DepthMaps(_depth(inverse, FARTHEST_RELATIVE), "relative", f"{source}, nothing to align to; median 1")

    def _look(
        self, view: CameraView, allocate: Allocate
    ) -> tuple[Float[np.ndarray, "T H W"], UInt8[np.ndarray, "T H W"] | None]:
        """The model's inverse depth, and the grey pictures where they are needed for steadying."""
        import cv2

        shape = (view.length, *view.size[::-1])
        inverse = allocate(shape, np.float32)
        grey = allocate(shape, np.uint8) if self.config.steady and view.fixed else None
        for start in range(0, view.length, LOOKED_AT):
            numbers = np.arange(start, min(start + LOOKED_AT, view.length))
            frames = view.some_frames(numbers)
            inverse[numbers] = self.model.inverse_depth(frames)
            if grey is not None:
                grey[numbers] = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        return inverse, grey

    def _align(self, episode: Episode, view: CameraView, inverse: Float[np.ndarray, "T H W"]) -> DepthAlignment | None:
        """By the first method that can be; None when none can, or none is wanted."""
        refused = []
        for method in self.config.methods():
            try:
                return align(method, episode, view, inverse, not self.model.metric, self.config.table_height or 0.0)
            except CannotAlign as error:
                refused.append(str(error))
        if self.config.align not in ("auto", "none"):
            raise BadEpisode(
                "no_depth_anchors",
                f"camera {view.name}: depth cannot be aligned by {'; '.join(refused)}; --depth-options align=auto takes what there is",
            )
        return None


def _in_memory(shape: tuple[int, ...], kind: type) -> np.ndarray:
    return np.empty(shape, kind)


def _on_disk(shape: tuple[int, ...], kind: type) -> np.ndarray:
    """An array in a temporary file, which is gone when the array is."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, kind, "w+", shape=shape)


def _depth(inverse: Float[np.ndarray, "T H W"], farthest: float) -> Float[np.ndarray, "T H W"]:
    """Depth from inverse depth, in its place; NaN where that is unknown or beyond the farthest."""
    with np.errstate(invalid="ignore", divide="ignore"):
        for frame in inverse:
            frame[~(frame > 1 / farthest)] = np.nan
            np.divide(np.float32(1), frame, out=frame)
    return inverse
