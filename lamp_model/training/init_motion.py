"""Loads stage 2's Motion Expert from a finished run of stage 1 or from weights in the authors' layout."""

from dataclasses import dataclass
from pathlib import Path

import torch

from lamp_model.backbones import feature_width
from lamp_model.errors import BadRun
from lamp_model.model import PolicyModel
from lamp_model.model_config import ModelConfig
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.networks.weights import check_state, load_weights
from lamp_model.published.files import is_published
from lamp_model.published.loading import load_published_motion, read_published_motion
from lamp_model.storage import run_folder
from lamp_model.storage.checkpoints import write_sealed_tensors

FROM_STAGE_1 = ("backbone", "backbone_options", "motion", "cameras", "padding", "image_orientation")
"""Settings that stage 2 takes over: a Motion Expert only works with its own backbone and sizes."""


@dataclass(frozen=True)
class MotionSource:
    """The source of a Motion Expert.

    Attributes:
        where: the run's folder, or the location of the published weights.
        preset: of the run; None for published weights.
        model: config of the model it was trained in.
        authors: the weights are the authors' own, not those of an exported run of this project.
    """

    where: str
    preset: str | None
    model: ModelConfig
    authors: bool = False


def find_run(folder: Path) -> MotionSource:
    """A finished run of stage 1.

    Raises:
        BadRun: there is none.
    """
    if not folder.is_dir():
        raise BadRun(
            f"stage 2 needs the Motion Expert of stage 1, and there is no run at {folder.resolve()}: "
            "train it first with lamp-train --stage 1, or give --motion (a folder, or none) or --motion-weights"
        )
    config = run_folder.finished_run(folder, 1)
    return MotionSource(str(folder), config.preset, config.model)


def find_published(source: str) -> MotionSource:
    """Find weights in the authors' layout: a folder, a ``.pt`` or a name on the Hugging Face hub. Names and shapes are
    checked against their config and its backbone, without building a model.

    Raises:
        BadRun: it does not look like one.
        BadCheckpoint: it is incomplete, tampered with, or of another size.
        MissingDependency: the backbone cannot be loaded.
    """
    if not is_published(source):
        raise BadRun(
            f"{source} holds no published weights: --motion-weights takes a folder with a .pt and its config.yaml, "
            "the .pt, or a "
            "name on the Hugging Face hub; a run of lamp-train is given as --motion"
        )
    found = read_published_motion(source)
    model = found.config.model
    width = feature_width(model.backbone, model.backbone_options)
    with torch.device("meta"):
        expected = MotionExpert(model.motion, width)
    check_state(expected, found.tensors, found.where)
    return MotionSource(source, None, model, authors=not found.config.own_normalisation)


def backbone_source(folder: Path, where: str | None) -> Path:
    """The run folder whose stored backbone stage 2 uses: its own, or that of stage 1 if it has none yet."""
    own = (folder / run_folder.BACKBONE).is_dir()
    return folder if own or where is None or is_published(where) else Path(where)


def initialise_motion(folder: Path, where: str, policy: PolicyModel) -> None:
    """Load the Motion Expert that is stored in the run or, if there is none yet, from its source, together with what
    stage 1 trained of the backbone.

    Raises:
        BadCheckpoint: its weights are damaged or of another size.
    """
    if (folder / run_folder.MOTION).is_file():
        run_folder.load_kept_motion(folder, policy)
    elif is_published(where):
        expert = load_published_motion(where)
        tensors = {f"motion_head.{name}": tensor for name, tensor in expert.state_dict().items()}
        load_weights(policy, tensors, run_folder.module_names(policy, "motion_head"), where)
    else:
        run_folder.load_motion_weights(Path(where), policy)


def keep_motion(folder: Path, where: str, policy: PolicyModel) -> None:
    """Copy the Motion Expert and the backbone of stage 1 into the run of stage 2, so that it is self-contained. The
    backbone of published weights is not copied, because it can be downloaded again."""
    if not is_published(where):
        if run_folder.trained_backbone(run_folder.read_config(Path(where))):
            run_folder.save_backbone(folder, policy, trained=True)
        else:
            run_folder.copy_backbone(Path(where), folder)
    if not (folder / run_folder.MOTION).is_file():
        write_sealed_tensors(folder / run_folder.MOTION, run_folder.module_weights(policy, "motion_head"))
