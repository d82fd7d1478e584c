"""Depth Anything V2 (Yang et al., 2024): relative depth, or metric depth for rooms or streets, in three sizes."""

from dataclasses import dataclass
from typing import Literal

from pipeline.depth._hub_models import LIBRARIES, Family, Weights
from pipeline.depth._monocular import EstimatorConfig, build, check

__all__ = ["LIBRARIES", "Config", "build", "check"]

FAMILY = Family(
    name="Depth Anything V2",
    model_type="depth_anything",
    depth_model="DepthAnythingForDepthEstimation",
    processor=("transformers.models.dpt.image_processing_pil_dpt", "DPTImageProcessorPil"),
)
PINNED = {"depth-anything/Depth-Anything-V2-Small-hf": "5426e4f0f36572d16453bbda7a8389317b1bef99"}


@dataclass(frozen=True)
class Config(EstimatorConfig):
    """Settings.

    Attributes:
        size: of the network: 25, 98 or 335 million parameters. Small is Apache-2.0, the others are for non-commercial
            use.
        kind: relative is the best at edges and needs alignment to metres; metric-indoor and metric-outdoor were
            fine-tuned on rooms up to 20 m and streets up to 80 m.
    """

    size: Literal["small", "base", "large"] = "small"
    kind: Literal["relative", "metric-indoor", "metric-outdoor"] = "relative"

    def chosen_weights(self) -> Weights:
        """See ``EstimatorConfig.chosen_weights``."""
        kind = {"relative": "", "metric-indoor": "Metric-Indoor-", "metric-outdoor": "Metric-Outdoor-"}[self.kind]
        name = self.weights or f"depth-anything/Depth-Anything-V2-{kind}{self.size.capitalize()}-hf"
        return Weights(FAMILY, name, self.revision or PINNED.get(name), self.kind != "relative")


def licence(config: Config) -> str:
    """Terms of the published weights."""
    return (
        "Apache-2.0" if config.size == "small" else "CC BY-NC 4.0 (Depth Anything V2 weights: non-commercial use only)"
    )
