"""Monocular depth estimation: the code that all depth models share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.depth._hub_models import DepthModel, Precision, Weights
from pipeline.depth._metric_alignment import CannotAlign, Method, align
from pipeline.depth._temporal import steady
from pipeline.depth._validity import check_inverse
from pipeline.episodes.spill import blocks, empty, in_turn, release
from schemas.episode import BadEpisode, CameraView, Episode
from schemas.perception import DepthAlignment, DepthMaps

SMALLEST = 64
"""Smallest height in pixels; no network works below it."""
FARTHEST_M = 50.0
"""Metres beyond which depth counts as unknown: aligned inverse depth is close to zero or negative there."""
FARTHEST_RELATIVE = 50.0
"""The same for relative depth, in medians."""
SAID = {"recorded": "recorded depth", "plane": "the table's plane", "robot": "the robot's tool"}
"""The alignments in words; their numbers, which differ between episodes, are in ``DepthAlignment``."""


@dataclass(frozen=True)
class EstimatorConfig:
    """Settings of every depth model.

    Attributes:
        weights: a name on the Hugging Face hub or a folder that holds a copy; None for the published ones.
        revision: of the hub's repository; None for the pinned one.
        resolution: height in pixels that pictures are scaled to for the network; None for the published one. Time goes
            with its square.
        batch_size: frames at a time; halved automatically when a GPU's memory runs out.
        device: auto takes a GPU when there is one; else cpu, cuda or cuda:N.
        precision: auto is float16 on a GPU and float32 on a CPU.
        align: what is used to convert depth to metres: recorded depth, the table's plane or the robot's tool; auto
            takes the first that the episode has, and leaves depth unaligned where it has none; a named one must exist.
        table_height: z of the table in the world, metres; with None, align=plane uses 0 and align=auto does not use
            the plane.
        steady: for a static camera, align each frame to the clip's median first.
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

    def chosen_weights(self) -> Weights:
        """The weights that the settings select; implemented by each kind of model."""
        raise NotImplementedError

    def methods(self) -> Sequence[Method]:
        """Ways of alignment in the order in which they are tried."""
        if self.align == "auto":
            return ("recorded", "robot") if self.table_height is None else ("recorded", "plane", "robot")
        return () if self.align == "none" else (self.align,)


def build(config: EstimatorConfig) -> "EstimatedDepth":
    """The estimator.

    Raises:
        MissingDependency: the weights cannot be loaded.
        ValueError: there is no such device.
    """
    weights = config.chosen_weights()
    return EstimatedDepth(
        config, DepthModel(weights, config.device, config.precision, config.batch_size, config.resolution)
    )


def check(config: EstimatorConfig) -> None:
    """Download the weights and check them.

    Raises:
        MissingDependency: they cannot be found or downloaded, or belong to another model.
    """
    config.chosen_weights().check()


@runtime_checkable
class InverseDepthModel(Protocol):
    """A model that processes each frame independently.

    Attributes:
        name: the name recorded in a sample.
        metric: whether it gives 1/m; else inverse depth up to scale and shift.
    """

    name: str
    metric: bool

    def inverse_depth(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Float[np.ndarray, "T H W"]:
        """Inverse depth at every pixel, in an array that the caller may modify."""
        ...


class EstimatedDepth:
    """See ``pipeline.depth.DepthEstimator``."""

    needs_all_frames = True

    def __init__(self, config: EstimatorConfig, model: InverseDepthModel):
        self.config, self.model = config, model

    def estimate(self, episode: Episode, view: CameraView, long: bool = False) -> DepthMaps:
        """Depth of every frame: in metres if the model is metric or the depth can be aligned, else relative.

        Raises:
            BadEpisode: the model's output is unusable, or the episode lacks what ``align`` names.
            BuildError: a single frame does not fit into the GPU's memory.
        """
        inverse = self._look(view, long)
        check_inverse(view.name, inverse)
        source = f"{self.model.name}, {'metric' if self.model.metric else 'relative'}"
        if self.config.steady and view.fixed:
            steady(inverse, shifted=not self.model.metric)
            source += ", steadied"
        alignment, why_not = self._align(episode, view, inverse)
        if alignment is not None:
            for frame in in_turn(inverse):
                frame *= np.float32(alignment.scale)
                frame += np.float32(alignment.shift)
            return DepthMaps(
                _depth(inverse, FARTHEST_M), "m", f"{source}, aligned to {SAID[alignment.method]}", alignment
            )
        if self.model.metric:
            return DepthMaps(_depth(inverse, FARTHEST_M), "m", f"{source}, not aligned{why_not}")
        middle = np.float32(np.nanmedian(inverse[:: max(len(inverse) // 16, 1)]))
        if middle <= 0:
            raise BadEpisode("depth_infinite", f"camera {view.name}: half of the estimated depth is infinitely far")
        for frame in in_turn(inverse):
            frame /= middle
        return DepthMaps(_depth(inverse, FARTHEST_RELATIVE), "relative", f"{source}, not aligned{why_not}; median 1")

    def _look(self, view: CameraView, long: bool) -> Float[np.ndarray, "T H W"]:
        """The model's inverse depth."""
        inverse = empty((view.length, *view.size[::-1]), np.float32, long)
        for numbers in blocks(view.length):
            inverse[numbers] = self.model.inverse_depth(view.some_frames(numbers))
            release(inverse)
        return inverse

    def _align(
        self, episode: Episode, view: CameraView, inverse: Float[np.ndarray, "T H W"]
    ) -> tuple[DepthAlignment | None, str]:
        """Align by the first method that succeeds; None when none does, with the reasons, or when none is wanted."""
        refused = []
        for method in self.config.methods():
            try:
                return align(method, episode, view, inverse, not self.model.metric, self.config.table_height or 0.0), ""
            except CannotAlign as error:
                refused.append(str(error))
        if self.config.align not in ("auto", "none"):
            raise BadEpisode(
                "no_depth_anchors",
                f"camera {view.name}: depth cannot be aligned by {'; '.join(refused)}; --depth-options align=auto "
                "takes what there is",
            )
        return None, f" ({'; '.join(refused)})" if refused else ""


def _depth(inverse: Float[np.ndarray, "T H W"], farthest: float) -> Float[np.ndarray, "T H W"]:
    """Depth from inverse depth, in place; NaN where it is unknown or beyond ``farthest``."""
    with np.errstate(invalid="ignore", divide="ignore"):
        for frame in in_turn(inverse):
            frame[~(frame > 1 / farthest)] = np.nan
            np.divide(np.float32(1), frame, out=frame)
    return inverse
