"""A run's folder: written by training, read by ``load_policy`` and stage 2.

=======================  ==================================================================================
``config.json``          the model, the training, the data; written when the run begins
``statistics.json``      stage 2: of the states and actions that are learnt, without held-out episodes
``backbone/``            weights and tokenizer, when they were made or trained here and not downloaded
``motion.safetensors``   stage 2: the frozen Motion Expert, so that the run is self-contained
``checkpoints/``         see ``lamp_model.storage.checkpoints``
``metrics.jsonl``        curves, one JSON object a line; ``curves.png`` at the end
``averaged.safetensors`` the averages of what learnt, with ``--ema``
``model.safetensors``    what learnt; written last and the sign that the run is finished
``*.safetensors.sha256`` checksums of these, verified on every load
``.lock``                held by the process that trains
=======================  ==================================================================================
"""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch

from lamp_model.config import VERSION, RunConfig
from lamp_model.errors import BadCheckpoint, BadRun
from lamp_model.model import MotionModel, PolicyModel, learning_modules
from lamp_model.model_config import ModelConfig
from lamp_model.networks.lora import ADAPTERS, BACKBONE_MODULE, add_factors, is_adapter, module_of, plain_name
from lamp_model.networks.weights import load_weights
from lamp_model.storage.checkpoints import load_best, read_sealed_tensors, seal_of, write_sealed_tensors
from schemas.errors import first_line
from schemas.files import write_whole
from schemas.structured import structure

CONFIG, STATISTICS, BACKBONE, LOCK = "config.json", "statistics.json", "backbone", ".lock"
MOTION, MODEL, AVERAGED, METRICS, CURVES, CHECKPOINTS = (
    "motion.safetensors",
    "model.safetensors",
    "averaged.safetensors",
    "metrics.jsonl",
    "curves.png",
    "checkpoints",
)
Weights = Literal["averaged", "last", "best"]
"""Which of a run's weights: their averages (``--ema``), those of the last step, or those of the checkpoint with the
smallest held-out loss."""


def write_config(folder: Path, config: RunConfig) -> None:
    """Write ``config.json`` whole."""
    write_whole(folder / CONFIG, json.dumps(asdict(config), indent=1).encode() + b"\n")


def read_config(folder: Path) -> RunConfig:
    """The config of a run.

    Raises:
        BadRun: the folder is no run.
    """
    path = folder / CONFIG
    try:
        values = json.loads(path.read_bytes())
        found = values.get("version", 1) if isinstance(values, dict) and "training" in values else VERSION
        if found != VERSION:
            raise BadRun(
                f"{path} has version {found}, and this program reads version {VERSION}: train it again, or use it with "
                "the version of LaMP that wrote it"
            )
        return structure(RunConfig, values, CONFIG)
    except BadRun:
        raise
    except FileNotFoundError:
        raise BadRun(f"{path} does not exist: {folder} is no run of lamp-train") from None
    except NotADirectoryError:
        raise BadRun(f"{folder} is a file: give the folder of a run of lamp-train") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadRun(f"{path} is no config of a run: {first_line(error)}") from error


def write_statistics(folder: Path, statistics: dict[str, Any]) -> None:
    """Keep the data's statistics with the run."""
    write_whole(folder / STATISTICS, json.dumps(statistics, indent=1).encode() + b"\n")


def read_statistics(folder: Path) -> dict[str, Any]:
    """The statistics kept with a run.

    Raises:
        BadRun: they are missing or damaged.
    """
    try:
        return json.loads((folder / STATISTICS).read_bytes())
    except (OSError, ValueError) as error:
        raise BadRun(f"{folder / STATISTICS} is missing or damaged: {error}") from error


def save_backbone(folder: Path, model: MotionModel, trained: bool = False) -> None:
    """Keep the backbone with the run when it was not downloaded, or was trained; whole or absent. Adapters are left
    out."""
    weights = str(model.config.backbone_options.get("weights", ""))
    final = folder / BACKBONE
    if final.exists() or not (trained or weights.startswith("random:")):
        return
    aside = folder / f".{BACKBONE}.{secrets.token_hex(4)}.partial"
    model.qwen_vl_interface.save(str(aside))
    os.rename(aside, final)


def copy_backbone(source: Path, folder: Path) -> None:
    """Copy another run's backbone into this one's folder; whole or absent."""
    final = folder / BACKBONE
    if final.exists() or not (source / BACKBONE).is_dir():
        return
    aside = folder / f".{BACKBONE}.{secrets.token_hex(4)}.partial"
    shutil.copytree(source / BACKBONE, aside)
    os.rename(aside, final)


def local_backbone(folder: Path, config: ModelConfig) -> ModelConfig:
    """The model's config with the backbone that is kept in the run's folder, if any."""
    if not (folder / BACKBONE).is_dir():
        return config
    options = {**config.backbone_options, "weights": str(folder / BACKBONE)}
    return replace(config, backbone_options=options)


def module_names(model: MotionModel, *modules: str) -> set[str]:
    """Names in the model's state that belong to its modules; of the backbone those on which the features depend, each
    weight once."""
    names = {name for name in model.state_dict() if module_of(name) in modules and module_of(name) != BACKBONE_MODULE}
    if BACKBONE_MODULE in modules:
        names |= {f"{BACKBONE_MODULE}.{name}" for name in model.qwen_vl_interface.feature_parameters()}
    return names


def module_weights(model: MotionModel, *modules: str) -> dict[str, Any]:
    """State of the model's modules by name."""
    names = module_names(model, *modules)
    return {name: tensor for name, tensor in model.state_dict().items() if name in names}


def finish(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write ``model.safetensors``: the state of the modules that learnt."""
    write_sealed_tensors(folder / MODEL, weights)


def keep_averages(folder: Path, averages: Mapping[str, torch.Tensor]) -> None:
    """Write ``averaged.safetensors``, before ``finish``."""
    write_sealed_tensors(folder / AVERAGED, averages)


def reopen(folder: Path, steps: int) -> None:
    """Rename the weights of a run that had finished after so many steps and goes on, to ``model.step-000600...``: it
    counts as unfinished until it writes new ones."""
    for name in (AVERAGED, MODEL):
        path = folder / name
        if path.is_file():
            kept = path.with_name(f"{path.stem}.step-{steps:06d}{path.suffix}")
            digest = seal_of(path).read_text().split()[0]
            write_whole(seal_of(kept), f"{digest}  {kept.name}\n".encode())
            os.rename(path, kept)
            seal_of(path).unlink()


def finished_run(folder: Path, stage: int | None = None) -> RunConfig:
    """The config of a finished run, of one stage or of either.

    Raises:
        BadRun: there is no such run, it is of the other stage or it has not finished.
    """
    config = read_config(folder)
    found = config.training.stage
    stage = found if stage is None else stage
    if found != stage:
        raise BadRun(f"{folder} holds a run of stage {found}, a run of stage {stage} was expected")
    if not (folder / MODEL).is_file():
        raise BadRun(f"{folder} has not finished: go on with lamp-train --stage {stage} --output {folder} --resume")
    return config


def learnt_weights(folder: Path, weights: Weights | None = None) -> dict[str, torch.Tensor]:
    """What a finished run learnt, by name.

    Args:
        weights: None: the averages where there are any, else the last.

    Raises:
        BadRun: it has no such weights.
        BadCheckpoint: they are damaged.
    """
    averaged = (folder / AVERAGED).is_file()
    if weights == "averaged" and not averaged:
        raise BadRun(f"{folder} has no averaged weights: it was trained without --ema; take those of the last step")
    if weights == "best":
        return load_best(folder / CHECKPOINTS)
    return read_sealed_tensors(folder / (AVERAGED if averaged and weights != "last" else MODEL))


def trained_backbone(config: RunConfig) -> bool:
    """Whether a run trained its backbone or adapters in it."""
    return config.model.lora_rank > 0 or config.training.train_backbone == "full"


def load_motion_weights(folder: Path, model: MotionModel) -> None:
    """Load what a finished stage 1 run learnt into a model: its Motion Expert, and what it trained of the backbone,
    which is merged into the backbone's weights.

    Raises:
        BadCheckpoint: its weights are damaged or of another size.
    """
    learnt = learnt_weights(folder)
    head = {name: tensor for name, tensor in learnt.items() if module_of(name) not in (ADAPTERS, BACKBONE_MODULE)}
    load_weights(model, head, module_names(model, "motion_head"), str(folder / MODEL))
    merge_backbone(model, {name: tensor for name, tensor in learnt.items() if name not in head}, str(folder / MODEL))


def merge_backbone(model: MotionModel, trained: dict[str, torch.Tensor], where: str) -> None:
    """Bring what another run trained of its backbone into a model's plain backbone weights: whole weights, or the
    product of adapters' factors, in the precision of the model's weights.

    Raises:
        BadCheckpoint: they are of another backbone.
    """
    own = {plain_name(n): t for n, t in model.state_dict().items() if module_of(n) == BACKBONE_MODULE}
    try:
        add_factors(own, {name: tensor for name, tensor in trained.items() if is_adapter(name)})
        with torch.no_grad():
            for name, tensor in trained.items():
                if not is_adapter(name):
                    own[name].copy_(tensor)
    except (KeyError, RuntimeError) as error:
        raise BadCheckpoint(f"{where} was trained on another backbone: {first_line(error)}") from error


def motion_weights(folder: Path) -> tuple[ModelConfig, dict[str, Any], str]:
    """Read the Motion Expert of a finished run of either stage: the config of its model, the tensors by their names in
    ``MotionExpert``, and the file they were read from.

    Raises:
        BadRun: there is no such run, it has not finished, or it has no Motion Expert.
        BadCheckpoint: the weights are missing or damaged.
    """
    config, head = finished_run(folder), "motion_head."
    if not config.model.guided:
        raise BadRun(f"{folder} was trained with --motion none: it has no Motion Expert")
    kept = read_sealed_tensors(folder / MOTION) if config.training.stage == 2 else {}
    learnt = learnt_weights(folder)  # after joint training, these weights are the newest
    found = {**kept, **{name: tensor for name, tensor in learnt.items() if name.startswith(head)}}
    where = folder / (MODEL if config.training.stage == 1 else MOTION)
    return config.model, {name.removeprefix(head): tensor for name, tensor in found.items()}, str(where)


def load_kept_motion(folder: Path, model: MotionModel) -> None:
    """Load the Motion Expert that a stage 2 run keeps.

    Raises:
        BadCheckpoint: it is missing, damaged or of another size.
    """
    load_weights(model, read_sealed_tensors(folder / MOTION), module_names(model, "motion_head"), str(folder / MOTION))


def load_model(folder: Path, weights: Weights | None = None) -> tuple[PolicyModel, RunConfig]:
    """The whole policy of a finished stage 2 run, frozen and in evaluation mode.

    Args:
        weights: see ``learnt_weights``.

    Raises:
        BadRun: the run is missing, unfinished or of stage 1, or has no such weights.
        BadCheckpoint: its weights are damaged or of another model.
    """
    config = finished_run(folder, 2)
    model = PolicyModel(local_backbone(folder, config.model))
    if config.model.guided:
        load_kept_motion(folder, model)
    _load_learnt(folder, model, config, weights)
    return model, config


def load_motion_model(folder: Path) -> tuple[MotionModel, RunConfig]:
    """The whole model of a finished stage 1 run, with its backbone; see ``load_model``."""
    config = finished_run(folder, 1)
    model = MotionModel(local_backbone(folder, config.model))
    _load_learnt(folder, model, config, None)
    return model, config


def _load_learnt(folder: Path, model: MotionModel, config: RunConfig, weights: Weights | None) -> None:
    names = module_names(model, *learning_modules(config.model, config.training))
    load_weights(model, learnt_weights(folder, weights), names, str(folder / MODEL))
    model.requires_grad_(False).eval()
