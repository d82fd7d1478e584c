"""The config of a run, as one tree of frozen dataclasses: the model, its training, its data.

``RunConfig`` is stored in a run's ``config.json``. Fields with an ``Option`` can be set on the command line and in
preset files. Nothing here imports torch.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from lamp_model.model_config import ModelConfig
from lamp_model.options import Option

VERSION = 2
"""Version of ``config.json``. Version 1 had no version number, manifests or checksums."""
POSITIVE = (
    "steps",
    "batch_size",
    "val_samples",
    "validate_every",
    "checkpoint_every",
    "log_every",
    "keep",
    "learning_rate",
    "clip",
    "motion_weight",
    "motion_rate",
    "moving_weight",
)


LARGEST_CROP = 0.5
"""A crop keeps more than this share of each side."""
CHANGING = ("steps", "learning_rate", "minimum_rate", "motion_rate", "backbone_rate")
"""What may change when a run is resumed: rates, for example after the loss diverged, and more steps."""
FULL_RATE = 1e-5
"""The backbone's default learning rate when all of it is trained."""


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of a stage.

    Attributes:
        batch_size: samples per step, over all ranks.
        learning_rate: the highest; with no warm-up that of the first step.
        minimum_rate: of the last step, where the schedule comes down.
        schedule, warmup, decay: see ``lamp_model.training.schedule.Schedule``.
        weight_decay: of matrices; biases, norms and gates have none.
        betas: of AdamW's moments.
        clip: largest norm of the gradient.
        ema: decay of the average of the trained weights (``lamp_model.training.averaging``); 0: there is none.
        keep: number of newest checkpoints that are kept, beside the best.
        train_backbone: ``none``, ``lora`` (adapters, see ``ModelConfig.lora_rank``) or ``full``. Configs from before
            this field say ``none`` where adapters are trained.
        backbone_rate: learning rate of what is trained of the backbone, which follows the same schedule. None: with
            adapters ``learning_rate``, else ``FULL_RATE``.
        augment_crop, augment_colour: see ``lamp_model.data.augmentation``.
        val_fraction: share of the *episodes* that is held out; at least one when there are two.
        validate_every, checkpoint_every, log_every: in steps; the last step always does all three.
        objective: of stage 2: ``action`` (paper), or ``joint``: action + ``motion_weight`` * motion, where the Motion
            Expert is trained on at ``motion_rate``, which follows the same schedule.
        checkpoint_activations: recompute the activations of trained blocks in the backward pass: less memory, more
            time, the same gradients.
        path_weight, moving_weight: see ``lamp_model.networks.motion_loss.LossWeights``.
        instructions: ``own`` trains on the dataset's instructions; ``all`` also on those that a model wrote.
        retarget: train on motion in equal steps of distance, not of time (``schemas.retargeting``).
        val_samples: the largest number of held-out samples per validation, spread evenly.
        earlier_rates: where a run was resumed with other rates or more steps: those used up to a step, by that step.
    """

    stage: int
    steps: Annotated[
        int,
        Option(
            "Optimiser steps. With --resume more may be given. [default: tiny 600 and 200; paper and small 93750 and "
            "15000]",
            may_change=True,
        ),
    ]
    batch_size: Annotated[int, Option("Samples a step. [default: tiny 16 and 4, paper 512, small 128]")]
    learning_rate: Annotated[
        float,
        Option(
            "The highest; --schedule brings it down. With --resume another may be given. [default: tiny 2e-3 and "
            "1e-3, paper and small 1e-4]",
            may_change=True,
        ),
    ]
    minimum_rate: Annotated[
        float, Option("Of the last step. [default: tiny 1e-4 and 5e-5, paper and small 1e-6]", may_change=True)
    ]
    schedule: Annotated[
        Literal["cosine", "constant", "wsd"],
        Option(
            "How the rate goes after the warm-up: cosine (paper) to the minimum; constant; or wsd: constant, then a "
            "line to the minimum, so that more steps can follow before it comes down. [default: cosine]"
        ),
    ] = "cosine"
    warmup: Annotated[
        int,
        Option("Steps in which the rate rises in a line from nearly 0: AdamW's first steps are large. [default: 0]"),
    ] = 0
    decay: Annotated[float, Option("Share of the steps in which wsd comes down. [default: 0.2]")] = 0.2
    weight_decay: Annotated[float, Option("Of matrices, by AdamW. [default: 0; paper and small 0.01 in stage 1]")] = 0.0
    betas: Annotated[
        tuple[float, float],
        Option("Of AdamW's moments; the second nearer 1 averages over more steps. [default: 0.9 0.95]"),
    ] = (0.9, 0.95)
    clip: Annotated[float, Option("Largest norm of the gradient; a longer one is shortened to it. [default: 1]")] = 1.0
    ema: Annotated[
        float,
        Option(
            "Keep an average of the trained weights with this decay a step, such as 0.999, which validation, stage 2 "
            "and the policy take: it costs 4 bytes a trained weight and is steadier. 0: none (paper). [default: 0]"
        ),
    ] = 0.0
    keep: Annotated[
        int, Option("Newest checkpoints that are kept, beside the best by held-out loss. [default: 2]", may_change=True)
    ] = 2
    train_backbone: Annotated[
        Literal["none", "lora", "full"],
        Option(
            "What learns of the backbone: none (paper), lora (adapters; needs peft) or full (all of it in float32: 16 "
            "bytes of memory a weight). [default: none; with --lora-rank lora]"
        ),
    ] = "none"
    backbone_rate: Annotated[
        float | None,
        Option(
            "Its learning rate: pretrained weights take a lower one than new ones. With --resume another may be given. "
            "[default: with lora the learning rate, with full 1e-5]",
            may_change=True,
        ),
    ] = None
    augment_crop: Annotated[
        float,
        Option(
            "Crop training images at random by up to this share of each side, such as 0.1, and enlarge the rest; "
            "keypoints, motion and intrinsics follow. 0: none (paper). [default: 0]"
        ),
    ] = 0.0
    augment_colour: Annotated[
        float,
        Option(
            "Change brightness, contrast and saturation of training images at random by up to this share, such as 0.2. "
            "0: none (paper). [default: 0]"
        ),
    ] = 0.0
    seed: Annotated[int, Option("Of weights, noise and the order of samples. [default: 0]")] = 0
    val_fraction: Annotated[
        float, Option("Share of the episodes held out for validation, at least one of two. [default: 0.1]")
    ] = 0.1
    val_samples: int = 64
    validate_every: Annotated[
        int, Option("Steps between looks at the held-out episodes. [default: tiny 100 and 50, paper 1000]")
    ] = 1000
    checkpoint_every: Annotated[int, Option("Steps between checkpoints. [default: tiny 100 and 50, paper 1000]")] = 1000
    log_every: Annotated[int, Option("Steps between lines of metrics.jsonl. [default: tiny 5, paper 20]")] = 20
    objective: Annotated[
        Literal["action", "joint"],
        Option("action (paper), or joint: the Motion Expert learns on. [default: action]", stage=2),
    ] = "action"
    motion_weight: Annotated[
        float,
        Option("of the motion's loss when the objective is joint. [default: 0.1]", stage=2, needs="joint"),
    ] = 0.1
    motion_rate: Annotated[
        float,
        Option(
            "the Motion Expert's learning rate when the objective is joint; with --resume another may be given. "
            "[default: 1e-5]",
            stage=2,
            needs="joint",
            may_change=True,
        ),
    ] = 1e-5
    checkpoint_activations: Annotated[
        bool,
        Option(
            "Keep fewer activations for the backward pass and compute them again: less memory, more time (a "
            "tiny step 5 to 25%). [default: no]"
        ),
    ] = False
    instructions: Annotated[
        Literal["own", "all"],
        Option(
            "own: the people's instructions; all: also those that a model wrote (lamp-data instruct). [default: own]"
        ),
    ] = "own"
    retarget: Annotated[
        bool,
        Option(
            "Learn motion in even steps of distance and not of time, so that slow and fast robots match. [default: no]",
            needs="joint",
        ),
    ] = False
    path_weight: Annotated[
        float,
        Option(
            "Of the squared error of the positions that the imagined increments add up to, beside that of the "
            "increments: positions are what is looked at, and small errors add up. [default: tiny 0.1, paper 0]",
            needs="joint",
        ),
    ] = 0.0
    moving_weight: Annotated[
        float,
        Option(
            "How many times more a point counts that moves than one that stands still, as nine in ten do: more learns "
            "motion sooner and stillness later. [default: 1]",
            needs="joint",
        ),
    ] = 1.0
    earlier_rates: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.stage not in (1, 2):
            raise ValueError(f"stage must be 1 or 2, found {self.stage}")
        for name in POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name.replace('_', '-')} must be positive and finite, found {getattr(self, name)}")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"val-fraction must be at least 0 and below 1, found {self.val_fraction}")
        if not 0 <= self.minimum_rate <= self.learning_rate:
            raise ValueError(
                f"minimum-rate must lie between 0 and learning-rate {self.learning_rate}, found {self.minimum_rate}"
            )
        if self.objective not in ("action", "joint"):
            raise ValueError(f"objective must be action or joint, found {self.objective!r}")
        if self.instructions not in ("own", "all"):
            raise ValueError(f"instructions must be own or all, found {self.instructions!r}")
        if self.objective == "joint" and self.motion_rate > self.learning_rate:
            raise ValueError(
                f"motion-rate must not be above learning-rate {self.learning_rate}, found {self.motion_rate}"
            )
        if not 0 <= self.path_weight < math.inf:
            raise ValueError(f"path-weight must be at least 0 and finite, found {self.path_weight}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, found {self.seed}")
        self._check_recipe()

    def _check_recipe(self) -> None:
        for name, known in (
            ("schedule", ("cosine", "constant", "wsd")),
            ("train_backbone", ("none", "lora", "full")),
        ):
            if getattr(self, name) not in known:
                flag = name.replace("_", "-")
                raise ValueError(f"{flag} must be one of {', '.join(known)}, found {getattr(self, name)!r}")
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"warmup must be at least 0 and below the {self.steps} steps, found {self.warmup}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be above 0 and at most 1, found {self.decay}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight-decay must be at least 0 and finite, found {self.weight_decay}")
        for name, values, most in (
            ("betas", self.betas, 1.0),
            ("ema", (self.ema,), 1.0),
            ("augment-crop", (self.augment_crop,), LARGEST_CROP),
            ("augment-colour", (self.augment_colour,), 1.0),
        ):
            if not all(0 <= value < most for value in values):
                found = " ".join(str(value) for value in values)
                raise ValueError(f"{name} must be at least 0 and below {most:g}, found {found}")
        rate = self.backbone_rate
        if rate is not None and not 0 < rate <= self.learning_rate:
            raise ValueError(
                f"backbone-rate must be above 0 and at most learning-rate {self.learning_rate}, found {rate}"
            )

    @property
    def rate_of_backbone(self) -> float:
        """The highest learning rate of what is trained of the backbone."""
        if self.backbone_rate is not None:
            return self.backbone_rate
        return min(FULL_RATE, self.learning_rate) if self.train_backbone == "full" else self.learning_rate

    @property
    def augments(self) -> bool:
        """Whether training images are changed at random."""
        return self.augment_crop > 0 or self.augment_colour > 0

    def asked(self, options: Mapping[str, Any]) -> "TrainingConfig":
        """A copy with the given options. Unless given, the minimum rate is at most the learning rate.

        Raises:
            ValueError: an option has an invalid value.
        """
        first = options.get("learning_rate", self.learning_rate)
        options = {"minimum_rate": min(self.minimum_rate, first), **options}
        return replace(self, **options)

    @property
    def learns_flow(self) -> bool:
        """Whether the samples' flow is learnt: in stage 1, and in stage 2 by the joint objective only."""
        return self.stage == 1 or self.objective == "joint"

    def resumed(self, options: Mapping[str, Any], done: int) -> "TrainingConfig":
        """A copy with those of the options that may change, used from step ``done`` on. Old rates and the old number of
        steps are recorded.

        Raises:
            ValueError: an option has an invalid value, or fewer steps are wanted.
        """
        if options.get("steps", self.steps) < self.steps:
            raise ValueError(
                f"the run has {self.steps} steps, and they may be raised only: found --steps {options['steps']}"
            )
        changed = self.asked(options)
        before = {name: value for name, value in asdict(self).items() if name in CHANGING and value is not None}
        if changed == self or all(getattr(changed, name) == getattr(self, name) for name in CHANGING):
            return self if changed == self else changed
        return replace(changed, earlier_rates={str(done): before, **self.earlier_rates} if done else {})


@dataclass(frozen=True)
class DataSource:
    """The shards that a run reads.

    Attributes:
        path: the last path given; shards may be moved.
        dataset: its name.
        digest: of the manifest or the mixture; a run is resumed only with the same digest.
        manifests: SHA-256 of every build's ``manifest.json``, by the build's name.
        samples: number of samples.
        actions: as requested: ``raw``, ``standard``, or None: the standard form where there is one.
        normalisation: of states and actions: ``min_max`` or ``quantile``.
    """

    path: str
    dataset: str
    digest: str
    manifests: dict[str, str]
    samples: int
    actions: Annotated[
        Literal["standard", "raw"] | None,
        Option(
            "which form of the actions is learnt (docs/actions.md). [default: standard where the shards have it]",
            stage=2,
        ),
    ] = None
    normalisation: Annotated[
        Literal["min_max", "quantile"],
        Option(
            "states and actions to [-1, 1] by minimum and maximum, or by their 1st and 99th percentile. [default: "
            "min_max]",
            stage=2,
        ),
    ] = "min_max"


@dataclass(frozen=True)
class RunConfig:
    """The content of ``config.json``.

    Attributes:
        motion_run: stage 2: the stage 1 run that the Motion Expert came from.
        merged: of a run that ``lamp-train merge`` wrote: the run it was made from, and what of the backbone that had
            trained (``train_backbone``, ``lora_rank``), which is in ``backbone/`` now.
        version: of this layout; runs of another version are refused by ``lamp_model.storage.run_folder.read_config``.
    """

    preset: str
    model: ModelConfig
    training: TrainingConfig
    data: DataSource
    motion_run: str | None = None
    merged: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION
