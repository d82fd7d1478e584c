"""Merges what a run trained of its backbone into a run without adapters, whose backbone is whole."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamp_model.config import RunConfig
from lamp_model.errors import BadRun
from lamp_model.model import MotionModel, learning_modules
from lamp_model.networks.lora import ADAPTERS, BACKBONE_MODULE
from lamp_model.storage import run_folder
from lamp_model.storage.checkpoints import seal_of, write_sealed_tensors
from schemas.files import folder_written_whole

COPIED = (
    run_folder.STATISTICS,
    run_folder.MOTION,
    seal_of(Path(run_folder.MOTION)).name,
    run_folder.METRICS,
    run_folder.CURVES,
)


def merge_run(run: Path, output: Path) -> RunConfig:
    """Write a finished run of either stage as one whose backbone lies whole in ``backbone/``: adapters are added to the
    weights beside them. It takes the averaged weights where there are any. The folder is whole or absent.

    Returns:
        The config of the merged run.

    Raises:
        BadRun: the run has not finished, trained nothing of its backbone, or the output exists.
        BadCheckpoint: its weights are damaged.
        MissingDependency: the backbone's own weights cannot be loaded.
        OSError: the output cannot be written; nothing is left there.
    """
    config = run_folder.finished_run(run)
    if not run_folder.trained_backbone(config):
        raise BadRun(f"{run} trained nothing of its backbone (--train-backbone none), so there is nothing to merge")
    if output.exists():
        raise BadRun(f"{output} exists already: give another --output, or remove it")
    load: Any = run_folder.load_motion_model if config.training.stage == 1 else run_folder.load_model
    with folder_written_whole(output) as aside:
        return _write(aside, run, load(run)[0], config)


def _write(folder: Path, run: Path, model: MotionModel, config: RunConfig) -> RunConfig:
    for name in COPIED:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    adapters = run_folder.module_weights(model, ADAPTERS)
    run_folder.merge_backbone(model, adapters, str(run))
    run_folder.save_backbone(folder, model, trained=True)
    merged = replace(
        config,
        model=replace(config.model, lora_rank=0),
        training=replace(config.training, train_backbone="none", backbone_rate=None),
        merged={
            "run": str(run),
            "train_backbone": config.training.train_backbone,
            "lora_rank": config.model.lora_rank,
            "averaged": (run / run_folder.AVERAGED).is_file(),
        },
    )
    run_folder.write_config(folder, merged)
    others = set(learning_modules(config.model, config.training)) - {ADAPTERS, BACKBONE_MODULE}
    write_sealed_tensors(folder / run_folder.MODEL, run_folder.module_weights(model, *sorted(others)))
    return merged
