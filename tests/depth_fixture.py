"""Depth models of the true architectures with small random weights, saved as published ones are; and views to estimate."""

from pathlib import Path

import numpy as np
import torch
from transformers import (
    BeitConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    PreTrainedModel,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil
from transformers.models.zoedepth.image_processing_pil_zoedepth import ZoeDepthImageProcessorPil
from transformers.utils import logging

from schemas.episode import ActionConvention, CameraView, Episode, EpisodeRef

SMALL = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
NECK = {"neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16}


def depth_anything(metric: bool = False) -> tuple[PreTrainedModel, DPTImageProcessorPil]:
    """Depth Anything V2 with its own ways of resizing, at 70 instead of 518."""
    backbone = Dinov2Config(
        **SMALL,
        image_size=70,
        patch_size=14,
        out_features=[f"stage{i}" for i in (1, 2, 3, 4)],
        reshape_hidden_states=False,
    )
    kind = {"depth_estimation_type": "metric", "max_depth": 20} if metric else {}
    sizes = {"patch_size": 14, "reassemble_hidden_size": 32, "head_hidden_size": 8}
    config = DepthAnythingConfig(backbone_config=backbone, **sizes, **NECK, **kind)
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    size = {"height": 70, "width": 70}
    processor = DPTImageProcessorPil(size=size, keep_aspect_ratio=True, ensure_multiple_of=14, resample=3, **imagenet)
    model = _enlivened(DepthAnythingForDepthEstimation(config))
    if metric:  # within the range in which a sigmoid still tells one place from another
        model.head.conv3.weight.data *= 0.03
        model.head.conv3.bias.data -= 3
    return model, processor


def midas() -> tuple[PreTrainedModel, DPTImageProcessorPil]:
    """DPT with MiDaS's ways: a square, whatever the picture."""
    config = DPTConfig(
        **SMALL, **NECK, intermediate_size=64, image_size=64, patch_size=16, backbone_out_indices=[0, 1, 2, 3]
    )
    return _enlivened(DPTForDepthEstimation(config)), DPTImageProcessorPil(size={"height": 64, "width": 64}, resample=3)


def zoedepth() -> tuple[PreTrainedModel, ZoeDepthImageProcessorPil]:
    """ZoeDepth: padded pictures, resized corner to corner."""
    backbone = BeitConfig(**SMALL, intermediate_size=64, image_size=64, patch_size=16, out_indices=[1, 2, 3, 4])
    backbone.reshape_hidden_states = False
    bins = [{"n_bins": 16, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}]
    few = {
        "bottleneck_features": 16,
        "num_attractors": [4, 4, 4, 1],
        "bin_embedding_dim": 8,
        "num_relative_features": 8,
    }
    config = ZoeDepthConfig(backbone_config=backbone, bin_configurations=bins, **few, **NECK)
    size = {"height": 64, "width": 96}
    processor = ZoeDepthImageProcessorPil(size=size, keep_aspect_ratio=True, ensure_multiple_of=32)
    return _enlivened(ZoeDepthForDepthEstimation(config)), processor


def save(folder: Path, model: PreTrainedModel, processor) -> Path:
    """Write a model as ``from_pretrained`` reads it."""
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _enlivened(model: PreTrainedModel) -> PreTrainedModel:
    """Weights large enough that the answer varies with the picture; the library's own leave it at zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                # Kernels that are the same all over blur: what comes out varies from place to place, but not from pixel to pixel.
                drawn = torch.randn(*parameter.shape[:2], *(1 for _ in parameter.shape[2:]), generator=generator)
                fan = parameter[0].numel() * parameter[0, 0].numel()
                parameter.copy_((drawn * 1.5 / fan**0.5).expand_as(parameter))
            elif parameter.numel() == 1:
                parameter.fill_(1.0)  # the bias of the last layer: what comes out is seldom cut off at 0
    return model.eval()


def pictures(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours, another in every frame."""
    import cv2

    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 5, 6, 3), dtype=np.uint8)
    return np.stack([cv2.resize(s, (width, height), interpolation=cv2.INTER_CUBIC) for s in small])


def episode_of(view: CameraView, state: np.ndarray | None = None, names: tuple[str, ...] = ("x", "y", "z")) -> Episode:
    """An episode that has this camera and these states."""
    state = np.zeros((view.length, 3), np.float32) if state is None else state.astype(np.float32)
    return Episode(
        ref=EpisodeRef("test", "file", "0", "", ""),
        views={view.name: view},
        primary=view.name,
        wrist=None,
        instructions=(),
        fps=10.0,
        state=state,
        state_names=names,
        actions=np.zeros((view.length, 1), np.float32),
        action_mask=np.zeros(view.length, bool),
        action_convention=ActionConvention("none", ("none",), "none"),
    )


def view_of(frames: np.ndarray, **known) -> CameraView:
    """A camera with these frames."""
    return CameraView("front", lambda: frames, len(frames), (frames.shape[2], frames.shape[1]), **known)
