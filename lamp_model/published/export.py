"""Exports a finished run in the layout of the published checkpoints: one file of weights with its config files."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from lamp_model.backbones.qwen3_vl import Config as Qwen3VLConfig
from lamp_model.config import RunConfig
from lamp_model.errors import BadRun
from lamp_model.model import PolicyModel
from lamp_model.model_config import ModelConfig, MotionConfig
from lamp_model.published import CONFIG, MANIFEST, OWN, STATISTICS
from lamp_model.published.config import to_values
from lamp_model.storage import run_folder
from lamp_model.storage.run_folder import BACKBONE
from schemas.files import folder_written_whole, sha256_of, write_whole

WEIGHTS = "pytorch_model.pt"
OURS = (
    "motion_target",
    "motion_input",
    "motion_output",
    "feature_norm",
    "feature_places",
    "feature_summary",
)
"""Settings of the Motion Expert that only this project has; all must be off in a run to export."""


def export_policy(run: Path, output: Path) -> Path:
    """Write a finished stage 2 run as a published checkpoint; the folder is whole or absent.

    Returns:
        The output.

    Raises:
        BadRun: the run has not finished, the output exists, or the published layout cannot express the model.
        BadCheckpoint: the run's weights are damaged.
        MissingDependency: the backbone's weights cannot be loaded.
        OSError: the output cannot be written; nothing is left there.
    """
    config = run_folder.finished_run(run, 2)
    if output.exists():
        raise BadRun(f"{output} exists already: give another --output, or remove it")
    check_expressible(run, config.model)
    _check_normalisation(run, config)
    with folder_written_whole(output) as aside:
        model, _ = run_folder.load_model(run)
        _write(aside, run, model, config)
    return output


def _write(folder: Path, run: Path, model: PolicyModel, config: RunConfig) -> None:
    torch.save({name: tensor.cpu() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    written = config.model
    if (run / BACKBONE).is_dir():
        # The state dictionary holds the weights, but not the sizes and the tokenizer.
        shutil.copytree(run / BACKBONE, folder / BACKBONE, ignore=shutil.ignore_patterns("*.safetensors*", "*.bin"))
        written = replace(written, backbone_options={**written.backbone_options, "weights": f"./{BACKBONE}"})
    values = to_values(written, model.qwen_vl_interface.width)
    write_whole(folder / CONFIG, yaml.safe_dump(values, sort_keys=False).encode())
    key = "libero" if config.data.dataset == "libero" else "franka"
    statistics = {key: run_folder.read_statistics(run)}
    write_whole(folder / STATISTICS, json.dumps(statistics, indent=1).encode() + b"\n")
    write_whole(folder / MANIFEST, json.dumps(_manifest(folder), indent=1).encode() + b"\n")


def _manifest(folder: Path) -> dict[str, Any]:
    files = _records(folder, folder.iterdir())
    weights = next(record for record in files if record["name"] == WEIGHTS)
    manifest = {"format": "pytorch_state_dict", "format_version": 1, "model": "LaMP", "checkpoint": weights}
    # Apart from their files, whose names have no folder in them.
    return {**manifest, "files": files, OWN: {"files": _records(folder, (folder / BACKBONE).rglob("*"))}}


def _records(folder: Path, paths: Iterable[Path]) -> list[dict[str, Any]]:
    return [
        {"name": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(paths)
        if path.is_file()
    ]


def check_expressible(run: Path, model: ModelConfig) -> None:
    """Refuse a run that the published layout cannot express.

    Raises:
        BadRun: the layout cannot express it.
    """
    if not model.guided or not model.motion.depth:
        raise BadRun(
            f"{run} was trained without motion or without its depth; the published layout knows 3D motion only"
        )
    if model.feature_norm != "none":
        raise BadRun(
            f"{run} was trained with --policy-feature-norm {model.feature_norm}, which the published layout does not "
            "know: train stage 2 again with --policy-feature-norm none"
        )
    if model.backbone != "qwen3-vl" or model.fusion != "gated":
        raise BadRun(
            f"{run} has the backbone {model.backbone} and the fusion {model.fusion}; "
            "the published layout knows qwen3-vl and gated only"
        )
    if model.action_head != "flow-matching" or model.lora_rank:
        raise BadRun(
            f"{run} has the action head {model.action_head} and adapters of rank {model.lora_rank}; "
            "the published layout knows flow-matching without adapters only (lamp-train merge RUN --output FOLDER "
            "merges them into the backbone)"
        )
    ours = [name for name in OURS if getattr(model.motion, name) != getattr(MotionConfig(), name)]
    if ours:
        said = ", ".join(f"--{name.replace('_', '-')} {getattr(model.motion, name)}" for name in ours)
        raise BadRun(
            f"{run} was trained with {said}; the published layout knows none of it: train both stages again with "
            "--recipe jobs/recipes/train/exportable_stage1.yaml in stage 1"
        )


def _check_normalisation(run: Path, config: RunConfig) -> None:
    if "embodiments" in run_folder.read_statistics(run) or config.data.normalisation != "min_max":
        raise BadRun(
            f"{run} was trained on several datasets or with --normalisation quantile; the published layout knows one "
            "dataset's minimum and "
            "maximum only"
        )


def differences(model: ModelConfig) -> list[str]:
    """Differences between the published code and this project on an exported run, one sentence each."""
    backbone = Qwen3VLConfig(**model.backbone_options)
    said = [
        "it makes 0 or 1 of the gripper in the actions (1 above 0.5), where this run's actions keep their range",
        "it makes 0 or 1 of the last number of the state (1 above 0.5), where this run normalises it like the others",
    ]
    if backbone.tidy:
        said.append(
            "it puts the instruction into the prompt as it stands, where this run strips spaces and the full stop"
        )
    if model.padding == "masked":
        said.append("it repeats the conditioning and masks nothing, where this run was trained with a mask")
    default = Qwen3VLConfig()
    if (backbone.min_pixels, backbone.max_pixels) != (default.min_pixels, default.max_pixels):
        said.append(
            f"it lets Qwen's processor enlarge images to {default.min_pixels} pixels, where this run shows them with "
            f"{backbone.min_pixels} to {backbone.max_pixels}"
        )
    if model.image_orientation != "mirrored":
        said.append(
            "its LIBERO client sends mirrored images (the simulator's rotated by 180 degrees), where this run was "
            f"trained on {model.image_orientation} ones: send those"
        )
    if model.cameras != ModelConfig().cameras:
        said.append(f"it shows the images of two cameras, where this run looks at {', '.join(model.cameras)}")
    return said
