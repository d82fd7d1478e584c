"""How a stage is trained."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

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
)
RATES = ("learning_rate", "minimum_rate", "motion_rate")
"""What a run may go on with other than it was begun with: a loss that ran away is mended so."""


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of a stage.

    Attributes:
        batch_size: samples of a step, over all ranks.
        learning_rate: at the first step; there is no warm-up.
        minimum_rate: where the cosine ends.
        clip: largest norm of the gradient.
        val_fraction: share of the *episodes* that is held out; at least one when there are two.
        validate_every, checkpoint_every, log_every: in steps; the last step always does all three.
        objective: of stage 2: ``action`` (paper), or ``joint``: action + ``motion_weight`` * motion, and the Motion
            Expert learns on at ``motion_rate``, which follows the same cosine.
        checkpoint_activations: compute the activations of the parts that learn again in the backward pass, block by
            block: less memory, more time, the same gradients.
        instructions: ``own`` learns from the people's own; ``all`` also from those that a model wrote.
        retarget: learn motion in even steps of distance and not of time (``schemas.retargeting``).
        val_samples: at most so many held-out samples are looked at each time, spread evenly.
        earlier_rates: where a run went on with other rates: those that were in force until a step, by that step.
    """

    stage: int
    steps: int
    batch_size: int
    learning_rate: float
    minimum_rate: float
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    seed: int = 0
    val_fraction: float = 0.1
    val_samples: int = 64
    validate_every: int = 1000
    checkpoint_every: int = 1000
    log_every: int = 20
    objective: Literal["action", "joint"] = "action"
    motion_weight: float = 0.1
    motion_rate: float = 1e-5
    checkpoint_activations: bool = False
    instructions: Literal["own", "all"] = "own"
    retarget: bool = False
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
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, found {self.seed}")

    def asked(self, options: Mapping[str, Any]) -> "TrainingConfig":
        """This with options that were given; the rate ends no higher than it begins.

        Raises:
            ValueError: one makes no sense.
        """
        first = options.get("learning_rate", self.learning_rate)
        options = {"minimum_rate": min(self.minimum_rate, first), **options}
        return replace(self, **options)

    def with_rates(self, options: Mapping[str, Any], done: int) -> "TrainingConfig":
        """This with the rates among the options, from step ``done`` on; what was in force until then is written down.

        Raises:
            ValueError: one makes no sense.
        """
        changed = self.asked({name: rate for name, rate in options.items() if name in RATES})
        if changed == self:
            return self
        before = {name: rate for name, rate in asdict(self).items() if name in RATES}
        return replace(changed, earlier_rates={str(done): before, **self.earlier_rates} if done else {})
