"""Motion prediction without a policy: from raw images and an instruction to 3D motion."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from lamp_model import backbones, observation
from lamp_model.model import MotionModel
from lamp_model.model_config import ModelConfig
from lamp_model.networks import motion_layout
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.networks.precision import autocast
from lamp_model.observation import resized_by_pil
from lamp_model.published.files import is_published
from lamp_model.published.loading import (
    load_published_policy,
    motion_expert,
    oriented,
    read_published_motion,
    read_statistics,
)
from lamp_model.storage import run_folder
from schemas.devices import choose_device
from schemas.flips import flipped
from schemas.plugins import configure


class MotionPredictor:
    """A trained Motion Expert and its backbone.

    Attributes:
        expert: the network, frozen, in evaluation mode and float32.
        config: of the model that it belongs to.
        pil_size: side to which PIL resizes images first; None leaves all resizing to the backbone.
    """

    def __init__(
        self,
        expert: MotionExpert,
        config: ModelConfig,
        device: torch.device,
        pil_size: int | None = None,
        backbone: Callable[[], MotionModel] | None = None,
    ):
        """See ``load_motion_expert``; ``backbone`` returns the model that encodes; None: the backbone of the config."""
        self.expert, self.config, self.pil_size, self._device = expert.to(device), config, pil_size, device
        self._load_backbone = backbone or (lambda: MotionModel(replace(config, guided=False)))
        self._encoder: MotionModel | None = None

    @property
    def cameras(self) -> tuple[str, ...]:
        """Roles of the images that ``imagine`` takes, in order."""
        return self.config.cameras

    @torch.inference_mode()
    def imagine(self, images: Sequence[np.ndarray], instruction: str, seed: int = 0) -> Float[np.ndarray, "K T 3"]:
        """Predict the scene flow. The first call loads the backbone.

        Args:
            images: for each of ``cameras`` an upright, unmirrored RGB image, uint8 [height, width, 3] of any size.
            instruction: what the robot is to do.
            seed: of the noise; the same seed gives the same motion.

        Returns:
            Increments (du, dv, dz) of the keypoint grid at each step, float32: u and v as fractions of width and
            height, z in the depth unit of the training data. Their cumulative sum from the keypoints gives positions
            as in ``open_shards(...)[i]["positions"]``.

        Raises:
            ValueError: an input has the wrong type, shape or number, or the instruction is empty.
            MissingDependency: the backbone's weights cannot be loaded.
        """
        observation.check_images(images, self.cameras)
        observation.check_instruction(instruction)
        observation.check_seed(seed)
        seen = [flipped(image, *self.config.flips) for image in images]
        resized = [resized_by_pil(image, self.pil_size) for image in seen]
        pictures = [torch.from_numpy(image).to(self._device)[None] for image in resized]
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        noise = torch.randn(self.expert.noise_shape(1), generator=torch.Generator().manual_seed(int(seed)))
        with autocast(self._device):
            features = self._backbone().encode(pictures, [instruction])
            motion = self.expert.rollout(features, noise.to(self._device))
        return motion_layout.upright(motion_layout.denormalise(motion.float().cpu()), self.config.flips)[0].numpy()

    def _backbone(self) -> MotionModel:
        if self._encoder is None:
            encoder = self._load_backbone().requires_grad_(False).eval()
            encoder.place(self._device)
            self._encoder = encoder
        return self._encoder


def load_motion_expert(
    source: str | Path, device: str = "auto", image_orientation: str | None = None
) -> MotionPredictor:
    """Load the Motion Expert of a finished run of either stage, of published motion weights or of a published policy.

    Its own weights are loaded and checked now, the backbone's by the first ``imagine``.

    Args:
        source: as for ``lamp_model.policy.load_policy``.
        device: ``auto`` takes a GPU when there is one.
        image_orientation: of published weights, as for ``load_policy``; weights without statistics are assumed to be
            for LIBERO. ``imagine`` takes upright images in any case.

    Raises:
        BadRun: there is no such run, it has not finished, or it has no Motion Expert.
        BadCheckpoint: its weights are damaged, tampered with, or of another model or size.
        ValueError: the device is not available.
    """
    chosen, pil_size, backbone = choose_device(device), None, None
    if is_published(source):
        found = read_published_motion(source)
        tensors, where, statistics = found.tensors, found.where, found.files.statistics
        name = read_statistics(statistics)[0] if statistics.is_file() else None
        config = oriented(found.config, name, image_orientation)
        if not found.config.own_normalisation:
            pil_size = configure(backbones.__name__, config.backbone, config.backbone_options).image_size
        if found.whole:
            backbone = partial(_backbone_of_policy, source)
    else:
        config, tensors, where = run_folder.motion_weights(Path(source))
        if run_folder.trained_backbone(run_folder.read_config(Path(source))):
            backbone = partial(_backbone_of_run, Path(source))
        config = run_folder.local_backbone(Path(source), config)
    return MotionPredictor(motion_expert(config, tensors, where), config, chosen, pil_size, backbone)


def _backbone_of_run(folder: Path) -> MotionModel:
    stage = run_folder.read_config(folder).training.stage
    return run_folder.load_motion_model(folder)[0] if stage == 1 else run_folder.load_model(folder)[0]


def _backbone_of_policy(source: str | Path) -> MotionModel:
    return load_published_policy(source).model
