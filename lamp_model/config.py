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
    "learning_rate",
    "clip",
    "motion_weight",
    "motion_rate",
    "moving_weight",
)


RATES = ("learning_rate", "minimum_rate", "motion_rate")
"""Options that may change when a run is resumed, for example after the loss diverged."""


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of a stage.

    Attributes:
        batch_size: samples per step, over all ranks.
        learning_rate: at the first step; there is no warm-up.
        minimum_rate: at the end of the cosine.
        clip: largest norm of the gradient.
        val_fraction: share of the *episodes* that is held out; at least one when there are two.
        validate_every, checkpoint_every, log_every: in steps; the last step always does all three.
        objective: of stage 2: ``action`` (paper), or ``joint``: action + ``motion_weight`` * motion, where the Motion
            Expert is trained on at ``motion_rate``, which follows the same cosine.
        checkpoint_activations: recompute the activations of trained blocks in the backward pass: less memory, more
            time, the same gradients.
        path_weight, moving_weight: see ``lamp_model.networks.motion_loss.LossWeights``.
        instructions: ``own`` trains on the dataset's instructions; ``all`` also on those that a model wrote.
        retarget: train on motion in equal steps of distance, not of time (``schemas.retargeting``).
        val_samples: the largest number of held-out samples per validation, spread evenly.
        earlier_rates: where a run was resumed with other rates: the rates used up to a step, by that step.
    """

    stage: int
    steps: Annotated[int, Option("Optimiser steps. [default: tiny 600 and 200; paper 93750 and 15000]")]
    batch_size: Annotated[int, Option("Samples a step. [default: tiny 16 and 4, paper 512]")]
    learning_rate: Annotated[
        float,
        Option(
            "At the first step; a cosine brings it down. With --resume another may be given. [default: tiny 2e-3 and "
            "1e-3, paper 1e-4]",
            may_change=True,
        ),
    ]
    minimum_rate: float
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
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

    def with_rates(self, options: Mapping[str, Any], done: int) -> "TrainingConfig":
        """A copy with the rates among the options, used from step ``done`` on. The old rates are recorded.

        Raises:
            ValueError: an option has an invalid value.
        """
        changed = self.asked({name: rate for name, rate in options.items() if name in RATES})
        if changed == self:
            return self
        before = {name: rate for name, rate in asdict(self).items() if name in RATES}
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
        version: of this layout; runs of another version are refused by ``lamp_model.storage.run_folder.read_config``.
    """

    preset: str
    model: ModelConfig
    training: TrainingConfig
    data: DataSource
    motion_run: str | None = None
    version: int = VERSION
