"""What ``lamp-train`` may be asked for, and the request that the answers describe."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from jobs.cli.help_text import optional_in_words

if TYPE_CHECKING:
    from lamp_model.training.request import Request

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
@optional_in_words
class Train:
    """Train a stage of LaMP from shards that lamp-data built.

    Stage 1 teaches the Motion Expert to generate scene flow. Stage 2 teaches Motion Guidance and the Action Expert to
    act; the Motion Expert of stage 1 is frozen and guides. An option that is not given is the preset's, or, with
    --resume, that of the run.

    lamp-train export RUN --output FOLDER writes a run as the authors publish their checkpoints.
    """

    stage: Literal[1, 2] | None = None
    """1: motion, 2: policy."""
    recipe: Path | None = None
    """A file of these options, such as jobs/recipes/train/fusion_add.yaml; those given here go first. The run goes to
    runs/NAME of the file.
    """
    data: Path | None = None
    """Folder of shards, or a mixture (docs/mixtures.md). [default: shards/libero]"""
    output: Path | None = None
    """Folder of the run. [default: runs/stage1 or runs/stage2]"""
    motion: Path | None = None
    """Stage 2: the finished run of stage 1 to build on. [default: runs/stage1] Or a word for the motion prior: 3d
    (paper) or 2d (depth masked) in stage 1, none in stage 2."""
    motion_weights: str | None = None
    """Stage 2: motion weights in the authors' layout in place of a run of stage 1: a folder, a .pt or a name on the
    Hugging Face hub.
    """
    backbone: str | None = None
    """qwen3-vl (paper), openvla-7b, or any model of transformers: transformers-vlm:weights=OWNER/NAME,revision=COMMIT.
    Stage 2 takes that of stage 1. [default: qwen3-vl]"""
    lora_rank: int | None = None
    """Stage 2: adapters of this rank learn in the backbone's query and key projections; needs peft. [default: 0, none]
    """
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
    """The Motion Expert's learning rate when the objective is joint; with --resume another may be given. [default:
    1e-5]
    """
    checkpoint_activations: bool | None = None
    """Keep fewer activations for the backward pass and compute them again: less memory, more time (a tiny step 5 to
    25%). [default: no]
    """
    actions: Literal["standard", "raw"] | None = None
    """Stage 2: which form of the actions is learnt (docs/actions.md). [default: standard where the shards have it]"""
    instructions: Literal["own", "all"] | None = None
    """own: the people's instructions; all: also those that a model wrote (lamp-data instruct). [default: own]"""
    retarget: bool | None = None
    """Learn motion in even steps of distance and not of time, so that slow and fast robots match. [default: no]"""
    normalisation: Literal["min_max", "quantile"] | None = None
    """Stage 2: states and actions to [-1, 1] by minimum and maximum, or by their 1st and 99th percentile. [default:
    min_max]
    """
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
    """At the first step; a cosine brings it down. With --resume another may be given. [default: tiny 4e-3 and 1e-3,
    paper 1e-4]
    """
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


def request_of(args: Train, output: Path) -> "Request":
    """The request for a run in a folder."""
    from lamp_model.training.overrides import MOTIONS, Variants
    from lamp_model.training.request import Request

    prior = str(args.motion) if str(args.motion) in MOTIONS else None
    assert args.stage is not None
    return Request(
        stage=args.stage,
        data=args.data,
        output=output,
        motion=None if prior else args.motion,
        preset=args.preset,
        options={name: value for name in OPTIONS if (value := getattr(args, name)) is not None},
        motion_weights=args.motion_weights,
        variants=Variants(
            cast(Any, prior),
            args.fusion,
            args.guidance_steps,
            args.backbone,
            args.action_head,
            args.lora_rank,
            args.positions,
            args.chunk,
        ),
        resume=args.resume,
        device=args.device,
        threads=args.threads,
        actions=args.actions,
        normalisation=args.normalisation,
        relative_depth=args.relative_depth,
    )
