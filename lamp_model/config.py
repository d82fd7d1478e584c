"""What decides a run, as one tree of frozen configs: the model, its training, its data.

``RunConfig`` is what stands in a run's ``config.json``. Nothing here imports torch.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from schemas.scene_flow import GRID, HORIZON

MOST_LAYERS, LARGEST = 1_000, 65_536
"""Far above any model; a size beyond them is a mistake that would take all memory or all time."""


BACKBONES, FUSIONS, ACTION_HEADS = "lamp_model.backbones", "lamp_model.fusions", "lamp_model.action_heads"


@dataclass(frozen=True)
class MotionConfig:
    """Sizes of the Motion Expert; the defaults are the paper's.

    Attributes:
        time_channels: of the sinusoid that embeds the flow time.
        steps_per_frame: adjacent steps packed into one frame of tokens.
        patch_size: keypoints along each side of a token.
        conditioning_tokens: the fixed number of conditioning tokens when padding is ``repeat``.
        denoising_steps: Euler steps of a full rollout; guidance takes the first ``guidance_steps`` of them.
        depth: false masks the depth component, into the network and out of it: a prior of 2D motion (the paper's
            ablation).
    """

    layers: int = 12
    heads: int = 16
    head_dim: int = 64
    time_channels: int = 512
    patch_size: int = 2
    steps_per_frame: int = 2
    dropout: float = 0.1
    grid: int = GRID
    horizon: int = HORIZON
    conditioning_tokens: int = 256
    denoising_steps: int = 10
    guidance_steps: int = 1
    depth: bool = True

    def __post_init__(self) -> None:
        sizes = ("heads", "head_dim", "time_channels", "patch_size", "steps_per_frame", "grid", "horizon")
        check_sizes(self, (*sizes, "conditioning_tokens"), counts=("layers", "denoising_steps"))
        check_dropout(self.dropout)
        if self.grid % self.patch_size or self.horizon % self.steps_per_frame:
            raise ValueError(
                f"the grid must be a multiple of patch_size and the horizon of steps_per_frame, found "
                f"{self.grid} / {self.patch_size} and {self.horizon} / {self.steps_per_frame}"
            )
        if self.width % 16:
            raise ValueError(f"heads * head_dim must be a multiple of 16 for the 3D positions, found {self.width}")
        if not 0 <= self.guidance_steps <= self.denoising_steps:
            raise ValueError(
                f"guidance_steps must lie between 0 and denoising_steps {self.denoising_steps}, found "
                f"{self.guidance_steps}"
            )

    @property
    def width(self) -> int:
        """Width of the transformer and of its hidden state."""
        return self.heads * self.head_dim

    @property
    def channels(self) -> int:
        """Channels of a packed frame."""
        return 3 * self.steps_per_frame

    @property
    def frames(self) -> int:
        """Packed frames."""
        return self.horizon // self.steps_per_frame

    @property
    def tokens(self) -> int:
        """M, the number of motion tokens."""
        return self.frames * (self.grid // self.patch_size) ** 2


@dataclass(frozen=True)
class ActionConfig:
    """Sizes of the Action Expert; the defaults are the paper's for LIBERO.

    Attributes:
        action_size: A, numbers in an action.
        state_size: S, numbers in a state.
        chunk: H, actions predicted at once.
        positions: the longest sequence of action and feature tokens together.
        denoising_steps: Euler steps of a prediction.
    """

    action_size: int = 7
    state_size: int = 8
    chunk: int = 10
    layers: int = 24
    width: int = 1024
    heads: int = 16
    mlp_ratio: int = 4
    dropout: float = 0.1
    positions: int = 512
    denoising_steps: int = 10

    def __post_init__(self) -> None:
        sizes = ["width", "heads", "mlp_ratio", "positions"]
        sizes += [
            name for name in ("action_size", "state_size") if getattr(self, name)
        ]  # plain video has none of either
        check_sizes(self, sizes, counts=("layers", "denoising_steps"))
        check_dropout(self.dropout)
        if self.width % self.heads:
            raise ValueError(f"heads must divide the Action Expert's width {self.width}, found {self.heads}")
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1 action, found {self.chunk}")
        if self.positions <= self.chunk:
            raise ValueError(f"positions must be more than the {self.chunk} actions of a chunk, found {self.positions}")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the module tree.

    Attributes:
        backbone: a plug-in of ``lamp_model.backbones``, with its options.
        fusion: a plug-in of ``lamp_model.fusions``, with its options (widths are filled in).
        action: sizes of the Action Expert.
        action_head: a plug-in of ``lamp_model.action_heads``, with its options (sizes and widths are filled in).
        lora_rank: of adapters beside the backbone's query and key projections, which stage 2 trains; 0: there are none.
        cameras: roles of the images, in the order in which the backbone sees them.
        guided: false leaves Motion Expert and guidance out: a policy without a motion prior (the paper's ablation).
        padding: ``masked`` keeps padding out of every attention, so that the other samples of a batch cannot change a
            sample's output; ``repeat`` does what the published checkpoints were trained with.
    """

    backbone: str = "qwen3-vl"
    backbone_options: dict[str, Any] = field(default_factory=dict)
    motion: MotionConfig = field(default_factory=MotionConfig)
    fusion: str = "gated"
    fusion_options: dict[str, Any] = field(default_factory=dict)
    action: ActionConfig = field(default_factory=ActionConfig)
    action_head: str = "flow-matching"
    action_head_options: dict[str, Any] = field(default_factory=dict)
    lora_rank: int = 0
    cameras: tuple[str, ...] = ("image", "wrist")
    padding: Literal["masked", "repeat"] = "masked"
    guided: bool = True

    def __post_init__(self) -> None:
        if self.padding not in ("masked", "repeat"):
            raise ValueError(f"padding must be masked or repeat, found {self.padding!r}")
        check_rank(self.lora_rank)


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


@dataclass(frozen=True)
class DataSource:
    """The shards that a run reads.

    Attributes:
        path: as given.
        dataset: its name.
        recipe_digest: of the build; a run goes on only with the same.
        samples: how many.
        actions: as asked for: ``raw``, ``standard``, or None: the standard form where there is one.
        normalisation: of states and actions, by ``min_max`` or by ``quantile`` s.
    """

    path: str
    dataset: str
    recipe_digest: str
    samples: int
    actions: str | None = "raw"
    normalisation: str = "min_max"


@dataclass(frozen=True)
class RunConfig:
    """What stands in ``config.json``.

    Attributes:
        motion_run: stage 2: the stage 1 run that the Motion Expert came from.
    """

    preset: str
    model: ModelConfig
    training: TrainingConfig
    data: DataSource
    motion_run: str | None = None


def check_sizes(config: object, sizes: Iterable[str], counts: Iterable[str]) -> None:
    """Hold fields of a config to what a network can have: sizes to 1..65,536, counts of layers and steps to 1..1,000.

    Raises:
        ValueError: one is not.
    """
    for names, most in ((sizes, LARGEST), (counts, MOST_LAYERS)):
        for name in names:
            value = getattr(config, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} must lie between 1 and {most}, found {value}")


def check_dropout(dropout: float) -> None:
    """Refuse what is no probability of being dropped, or drops everything.

    Raises:
        ValueError: it is one.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, found {dropout}")


def check_rank(rank: int) -> None:
    """Refuse ranks that make no sense, and any when peft is missing.

    Raises:
        ValueError: one of the two.
    """

    from importlib.util import find_spec

    if rank < 0:
        raise ValueError(f"lora-rank must not be negative, found {rank}")
    if rank and find_spec("peft") is None:
        raise ValueError("lora-rank needs the library peft, which is not installed: pip install 'lamp-robotics[lora]'")
