"""ZoeDepth (Bhat et al., 2023): metric depth of rooms and streets."""

from dataclasses import dataclass
from typing import Literal

from pipeline.depth._estimated import EstimatedDepth, EstimatorConfig, build_estimator
from pipeline.depth._models import LIBRARIES, Family, Weights

__all__ = ["LIBRARIES", "Config", "build", "check"]

FAMILY = Family(
    name="ZoeDepth",
    model_type="zoedepth",
    depth_model="ZoeDepthForDepthEstimation",
    processor=("transformers.models.zoedepth.image_processing_pil_zoedepth", "ZoeDepthImageProcessorPil"),
    corners=True,
)


@dataclass(frozen=True)
class Config(EstimatorConfig):
    """Settings.

    Attributes:
        trained_on: the published weights: nyu-kitti (rooms and streets, chosen by itself), nyu (rooms) or kitti (streets).
    """

    trained_on: Literal["nyu-kitti", "nyu", "kitti"] = "nyu-kitti"


def build(config: Config) -> EstimatedDepth:
    """The estimator.

    Raises:
        MissingWeights: the weights cannot be loaded.
        ValueError: there is no such device.
    """
    return build_estimator(config, _weights(config))


def check(config: Config) -> None:
    """Have the weights downloaded and looked at.

    Raises:
        MissingWeights: they cannot be had, or are those of another model.
    """
    _weights(config).check()


def licence(config: Config) -> str:
    """Terms of the published weights."""
    return "MIT"


def _weights(config: Config) -> Weights:
    return Weights(FAMILY, config.weights or f"Intel/zoedepth-{config.trained_on}", config.revision)
