"""The labels of windows: tracked flow, resampled to the steps and checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.flow_sources import EpisodeFlow, FlowSource, Scene
from pipeline.recipe import QualityConfig
from pipeline.timing import Stopwatch
from pipeline.windows.quality import EvaluatedWindow, evaluate
from pipeline.windows.resampling import StepTimes, resample


@dataclass(frozen=True)
class LabelledWindows:
    """Labels of some windows of a scene.

    Attributes:
        flow: what they were made from; its iterator of windows is consumed.
        windows: (reference frame, label) in ascending order, each made on iteration.
    """

    flow: EpisodeFlow
    windows: Iterator[tuple[int, EvaluatedWindow]]


def label_windows(
    source: FlowSource,
    scene: Scene,
    references: Sequence[int],
    keypoints: Float[np.ndarray, "K 2"],
    times: StepTimes,
    quality: QualityConfig,
    watch: Stopwatch,
) -> LabelledWindows:
    """Label the windows that begin at some frames of a scene, as samples hold them.

    Args:
        source: follows the keypoints.
        scene: the result of ``source.observe``, or a slice of it.
        references: indices of its frames, ascending.
        keypoints: in pixels, placed on every reference frame.
        times: of the steps.
        quality: thresholds.
        watch: counts the time of each stage.

    Raises:
        BadEpisode: the source cannot label this episode.
    """
    flow = source.follow(scene, references, keypoints, times.reach, quality.depth_edge, watch)

    def windows() -> Iterator[tuple[int, EvaluatedWindow]]:
        for reference, lifted in flow.windows:
            if not len(lifted.flow.uvz):  # without flow there is nothing to check
                yield reference, EvaluatedWindow(lifted.flow, np.zeros(0, np.uint8), None, {})
                continue
            with watch.stage("lift and evaluate"):
                steps = times.within(scene.episode.length - 1 - reference)
                resampled, cameras = resample(lifted, times), flow.cameras
                label = evaluate(resampled, steps, times.per_second, cameras.intrinsics, cameras.size, quality)
            yield reference, label

    return LabelledWindows(flow, windows())
