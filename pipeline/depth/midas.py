"""MiDaS 3.0 with DPT (Ranftl et al., 2021): relative depth."""

from dataclasses import dataclass
from typing import Literal

from pipeline.depth._hub_models import LIBRARIES, Family, Weights
from pipeline.depth._monocular import EstimatorConfig, build, check

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

    def chosen_weights(self) -> Weights:
        """See ``EstimatorConfig.chosen_weights``."""
        return Weights(FAMILY, self.weights or PUBLISHED[self.size], self.revision, False)


def licence(config: Config) -> str:
    """Terms of the published weights."""
    return "Apache-2.0"
