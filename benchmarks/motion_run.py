"""A finished run of stage 1 with its windows, for what measures it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lamp_model.config import RunConfig
from lamp_model.data.dataset import TrainingData
from lamp_model.data.loader import Loader
from lamp_model.data.split import split_members
from lamp_model.model import MotionModel
from lamp_model.storage import run_folder
from lamp_model.training.data_setup import loaders
from lamp_model.training.stages import MotionStage


def load_run(folder: Path) -> tuple[MotionStage, RunConfig]:
    """The model of a finished run of stage 1, in evaluation mode."""
    config = run_folder.finished_run(folder, 1)
    model = MotionModel(run_folder.local_backbone(folder, config.model))
    run_folder.load_motion_weights(folder, model)
    model.place(torch.device("cpu"))
    return MotionStage(model.requires_grad_(False).eval()), config


def windows_of(config: RunConfig, path: Path | None = None) -> tuple[Loader, Loader | None]:
    """Windows of the run's own shards, to train on and held out; or all of other shards as the second."""
    data = TrainingData(Path(config.data.path))
    training, held_out = split_members(data, config.training.val_fraction)
    wanted = replace(config.training, val_samples=max(len(held_out), 1))
    mine = loaders(data, (training, held_out), config.model, config.data, wanted, 2)
    if path is None:
        return mine
    others = TrainingData(path)
    return mine[0], loaders(others, (np.arange(len(others)), np.zeros(0, int)), config.model, config.data, wanted, 2)[0]
