"""ZoeDepth (Bhat et al., 2023): metric depth of rooms and streets."""

from dataclasses import dataclass
from typing import Literal

from pipeline.depth._hub_models import LIBRARIES, Family, Weights
from pipeline.depth._monocular import EstimatorConfig, build, check

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
        trained_on: the published weights: nyu-kitti (rooms and streets, chosen automatically), nyu (rooms) or kitti
            (streets).
    """

    trained_on: Literal["nyu-kitti", "nyu", "kitti"] = "nyu-kitti"

    def chosen_weights(self) -> Weights:
        """See ``EstimatorConfig.chosen_weights``."""
        return Weights(FAMILY, self.weights or f"Intel/zoedepth-{self.trained_on}", self.revision)


def licence(config: Config) -> str:
    """Terms of the published weights."""
    return "MIT"
