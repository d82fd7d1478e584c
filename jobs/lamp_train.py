"""``lamp-train``: train stage 1 (the Motion Expert) or stage 2 (the policy that it guides) from shards."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import tyro

from jobs.command_line import Failed, UsageError, run_command
from jobs.train_recipe import with_recipe
from schemas.structured import BadFile

if TYPE_CHECKING:
    from lamp_model.training.run import Prepared, Request

OPTIONS = (
    "steps",
    "batch_size",
    "learning_rate",
    "seed",
    "val_fraction",
    "checkpoint_every",
    "validate_every",
    "objective",
    "motion_weight",
    "motion_rate",
    "checkpoint_activations",
    "instructions",
    "retarget",
)
"""Fields of the training's config that can be given here."""


@dataclass(frozen=True)
class Train:
    """Train a stage of LaMP from shards that lamp-data built.

    Stage 1 teaches the Motion Expert to generate scene flow. Stage 2 teaches Motion Guidance and the Action Expert to act; the
    Motion Expert of stage 1 is frozen and guides. An option that is not given is the preset's, or, with --resume, that of the run.

    lamp-train export RUN --output FOLDER writes a run as the authors publish their checkpoints.
    """

    stage: Literal[1, 2] | None = None
    """1: motion, 2: policy."""
    recipe: Path | None = None
    """A file of these options, such as recipes/train/fusion_add.yaml; those given here go first. The run goes to runs/NAME of the file."""
    data: Path | None = None
    """Folder of shards, or a mixture (docs/mixtures.md). [default: shards/libero]"""
    output: Path | None = None
    """Folder of the run. [default: runs/stage1 or runs/stage2]"""
    motion: Path | None = None
    """Stage 2: the finished run of stage 1 to build on. [default: runs/stage1] Or a word for the motion prior: 3d (paper) or 2d
    (depth masked) in stage 1, none in stage 2."""
    motion_weights: str | None = None
    """Stage 2: motion weights in the authors' layout in place of a run of stage 1: a folder, a .pt or a name on the Hugging Face hub."""
    backbone: str | None = None
    """qwen3-vl (paper), openvla-7b, or any model of transformers: transformers-vlm:weights=OWNER/NAME,revision=COMMIT. Stage 2
    takes that of stage 1. [default: qwen3-vl]"""
    lora_rank: int | None = None
    """Stage 2: adapters of this rank learn in the backbone's query and key projections; needs peft. [default: 0, none]"""
    positions: int | None = None
    """Stage 2: the longest sequence of actions and features together; OpenVLA's two images need 640. [default: 512]"""
    fusion: str | None = None
    """Stage 2: how motion enters the features: gated (paper), add, concat or gated-tokens, with options as in
    gated-tokens:layers=2. [default: gated]"""
    guidance_steps: int | None = None
    """Stage 2: denoising steps before the motion guides, 0 to 10. [default: 1]"""
    action_head: str | None = None
    """Stage 2: flow-matching (paper) or binned, with options as in binned:bins=256. [default: flow-matching]"""
    objective: Literal["action", "joint"] | None = None
    """Stage 2: action (paper), or joint: the Motion Expert learns on. [default: action]"""
    motion_weight: float | None = None
    """Of the motion's loss when the objective is joint. [default: 0.1]"""
    motion_rate: float | None = None
    """The Motion Expert's learning rate when the objective is joint. [default: 1e-5]"""
    checkpoint_activations: bool | None = None
    """Keep fewer activations for the backward pass and compute them again: less memory, about a third more time. [default: no]"""
    actions: Literal["standard", "raw"] | None = None
    """Stage 2: which form of the actions is learnt (docs/actions.md). [default: standard where the shards have it]"""
    instructions: Literal["own", "all"] | None = None
    """own: the people's instructions; all: also those that a model wrote (lamp-data instruct). [default: own]"""
    retarget: bool | None = None
    """Learn motion in even steps of distance and not of time, so that slow and fast robots match. [default: no]"""
    normalisation: Literal["min_max", "quantile"] | None = None
    """Stage 2: states and actions to [-1, 1] by minimum and maximum, or by their 1st and 99th percentile. [default: min_max]"""
    relative_depth: bool = False
    """Learn motion also from samples whose depth has no scale (docs/depth.md); they are refused otherwise."""
    preset: Literal["tiny", "paper"] | None = None
    """tiny runs on any machine in about a minute; paper is the published size, needs a large GPU and downloads
    Qwen3-VL-4B-Instruct. [default: tiny; in stage 2 that of stage 1]"""
    steps: int | None = None
    """Optimiser steps. [default: tiny 150 and 200; paper 93750 and 15000]"""
    batch_size: int | None = None
    """Samples a step. [default: tiny 4, paper 512]"""
    learning_rate: float | None = None
    """At the first step; a cosine brings it down. [default: tiny 4e-3 and 1e-3, paper 1e-4]"""
    seed: int | None = None
    """Of weights, noise and the order of samples. [default: 0]"""
    val_fraction: float | None = None
    """Share of the episodes held out for validation, at least one of two. [default: 0.1]"""
    chunk: int | None = None
    """Stage 2: actions predicted at once. [default: 10]"""
    validate_every: int | None = None
    """Steps between looks at the held-out episodes. [default: tiny 50, paper 1000]"""
    checkpoint_every: int | None = None
    """Steps between checkpoints. [default: tiny 50, paper 1000]"""
    resume: bool = False
    """Go on with the run in the output folder."""
    device: str = "auto"
    """auto takes a GPU when there is one; else cpu, cuda or cuda:N."""
    threads: int = 2
    """Threads that decode samples."""


def train_command(args: Train) -> int:
    """Train as asked and say what came of it; the exit code."""
    args = _with_recipe(args)
    output = args.output or Path(f"runs/stage{args.stage}")
    _check_data(args, output)
    _wait_politely()
    from lamp_model.training import run as training  # torch takes seconds to import
    from schemas.shard_formats import CorruptShard

    _quiet()
    try:
        prepared = training.prepare(_request(args, output))
    except CorruptShard as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        if prepared.finished:
            print(f"{output} has already finished its {prepared.config.training.steps} steps")
            return 0
        _say_results(prepared, _train(prepared))
        return 0
    finally:
        prepared.data.close()


def _with_recipe(args: Train) -> Train:
    if args.recipe is not None:
        try:
            args = with_recipe(args, args.recipe)
        except BadFile as error:
            raise UsageError(str(error)) from error
    if args.stage is None:
        raise UsageError(
            "--stage is missing: 1 trains the motion, 2 the policy; or give --recipe with a file that says it"
        )
    return args


def _request(args: Train, output: Path) -> "Request":
    from lamp_model.training.run import Request
    from lamp_model.training.variants import MOTIONS, Variants

    prior = str(args.motion) if str(args.motion) in MOTIONS else None
    assert args.stage is not None
    return Request(
        stage=args.stage,
        data=args.data,
        output=output,
        motion=None if prior else args.motion,
        preset=args.preset,
        options={name: value for name in OPTIONS if (value := getattr(args, name)) is not None},
        chunk=args.chunk,
        motion_weights=args.motion_weights,
        variants=Variants(
            cast(Any, prior),
            args.fusion,
            args.guidance_steps,
            args.backbone,
            args.action_head,
            args.lora_rank,
            args.positions,
        ),
        resume=args.resume,
        device=args.device,
        threads=args.threads,
        actions=args.actions,
        normalisation=args.normalisation,
        relative_depth=args.relative_depth,
    )


def _train(prepared: "Prepared") -> dict[str, float]:
    from lamp_model.action_expert import TooLong
    from lamp_model.checkpoints import BadCheckpoint
    from lamp_model.run_folder import BadRun
    from lamp_model.samples import BadSample
    from lamp_model.training.loop import TrainingFailed
    from lamp_model.training.run import train
    from schemas.manifest import BadManifest
    from schemas.plugins import MissingWeights
    from schemas.shard_formats import CorruptShard

    again = f"lamp-train --stage {prepared.config.training.stage} --output {prepared.folder} --resume"
    try:
        return train(prepared)
    except MissingWeights as error:
        raise UsageError(str(error)) from error
    except (BadCheckpoint, TooLong, BadManifest, BadRun, BadSample, CorruptShard, TrainingFailed) as error:
        raise Failed(str(error)) from error
    except OSError as error:
        if error.strerror is None:
            raise
        where = f": {error.filename}" if error.filename else ""
        raise Failed(f"{error.strerror}{where}; when that is mended, go on with {again}") from error
    except KeyboardInterrupt:
        print(f"\ngo on with {again}", file=sys.stderr)
        raise


def _say_results(prepared: "Prepared", verdict: dict[str, float]) -> None:
    folder, stage = prepared.folder, prepared.config.training.stage
    print(f"{folder}: finished; model.safetensors, and curves in curves.png and metrics.jsonl")
    if "val_loss" in verdict:
        print(f"  held-out loss  {verdict['val_loss']:.4f}")
    if "action_error" in verdict:
        print(
            f"  actions        off by {verdict['action_error']:.3f} on average (normalised to [-1, 1]); "
            f"the data's mean action by {verdict['mean_action_error']:.3f}"
        )
    for group in ("moving", "all"):
        for unit in ("px", "m", "relative"):
            name = f"{unit}_{group}"
            if f"rollout_{name}" in verdict:
                print(
                    f"  rollout        {group} points off by {verdict[f'rollout_{name}']:.3g} {unit}; "
                    f"nothing moves: {verdict[f'still_{name}']:.3g} {unit}"
                )
    if stage == 1:
        motion = "" if str(folder) == "runs/stage1" else f" --motion {folder}"
        path = prepared.data.path
        print(f"next: lamp-train --stage 2{'' if path == Path('shards/libero') else f' --data {path}'}{motion}")
    else:
        robots = prepared.data.embodied
        whose = f", statistics_key={robots[0].name!r}" if len(robots) > 1 else ""
        print(
            f"next, in Python: lamp_model.policy.load_policy({str(folder)!r}{whose}).predict(images, instruction, state)"
        )


def _check_data(args: Train, output: Path) -> None:
    """Refuse when there is nothing to train on, before torch is imported."""
    data = args.data or Path("shards/libero")
    goes_on = args.data is None and args.resume and (output / "config.json").is_file()
    if goes_on or data.is_file() or any((data / name).is_file() for name in ("manifest.json", "mixture.json")):
        return
    if not data.exists():
        remedy = "build them with lamp-data build --dataset libero" if args.data is None else "look at --data"
        raise UsageError(f"there are no shards at {data.resolve()}: {remedy}")
    raise UsageError(f"{data.resolve()} has no manifest.json: its build has not finished, run lamp-data build again")


def _wait_politely() -> None:
    """Let torch's threads sleep while they wait; it must be said before torch is loaded.

    By default they spin, and on cores that are shared with anything else training becomes six times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _quiet() -> None:
    """Libraries' own progress bars and advice say nothing to the person who trains."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@dataclass(frozen=True)
class Export:
    """Write a finished stage 2 run in the layout of the authors' published checkpoints.

    That is one .pt with all weights, config.yaml, dataset_statistics.json and checkpoint_manifest.json.
    """

    run: tyro.conf.Positional[Path]
    """Folder of the run, e.g. runs/stage2."""
    output: Path
    """Folder to write."""


def export_command(args: Export) -> int:
    """Export as asked and say what came of it; the exit code."""
    _wait_politely()
    from lamp_model.checkpoints import BadCheckpoint
    from lamp_model.published.export import differences, export_policy
    from lamp_model.run_folder import BadRun, read_config

    _quiet()
    try:
        export_policy(args.run, args.output)
    except BadRun as error:
        raise UsageError(str(error)) from error
    except BadCheckpoint as error:
        raise Failed(str(error)) from error
    print(f"{args.output}: written; load_policy({str(args.output)!r}) acts exactly as the run does")
    for difference in differences(read_config(args.run).model):
        print(f"  the published code would differ: {difference}")
    return 0


def main() -> None:
    """Entry point of ``lamp-train``."""
    sys.exit(run_command(_run))


def _run() -> int:
    quick = (tyro.conf.FlagCreatePairsOff,)
    if sys.argv[1:2] == ["export"]:  # training is what the command is for, and needs no word
        return export_command(tyro.cli(Export, prog="lamp-train export", args=sys.argv[2:], config=quick))
    return train_command(tyro.cli(Train, prog="lamp-train", config=quick))


if __name__ == "__main__":
    main()
