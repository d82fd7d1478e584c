"""MiDaS 3.0 with DPT (Ranftl et al., 2021): relative depth."""

from dataclasses import dataclass
from typing import Literal

from pipeline.depth._estimated import EstimatedDepth, EstimatorConfig, build_estimator
from pipeline.depth._models import LIBRARIES, Family, Weights

__all__ = ["LIBRARIES", "Config", "build", "check"]

FAMILY = Family(
    name="MiDaS",
    model_type="dpt",
    depth_model="DPTForDepthEstimation",
    processor=("transformers.models.dpt.image_processing_pil_dpt", "DPTImageProcessorPil"),
)
PUBLISHED = {"hybrid": "Intel/dpt-hybrid-midas", "large": "Intel/dpt-large"}


@dataclass(frozen=True)
class Config(EstimatorConfig):
    """Settings.

    Attributes:
        size: of the network: 123 or 344 million parameters.
    """

    size: Literal["hybrid", "large"] = "hybrid"


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
    return "Apache-2.0"


def _weights(config: Config) -> Weights:
    return Weights(FAMILY, config.weights or PUBLISHED[config.size], config.revision, False)
