"""The config of the module tree: sizes of the networks, and the chosen plug-ins. Nothing here imports torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from lamp_model.options import Choice, Option
from schemas.flow_size import GRID, HORIZON
from schemas.orientation import FLIPS

MOST_LAYERS, LARGEST = 1_000, 65_536
"""Far above any real model; a larger value is a mistake that would exhaust memory or time."""


BACKBONES, FUSIONS, ACTION_HEADS = "lamp_model.backbones", "lamp_model.fusions", "lamp_model.action_heads"

LORA_MODULES, LORA_RANK = ("q_proj", "k_proj"), 16
"""Query and key projections: adapters change the attention weights, not the values. And the rank where only
``--train-backbone lora`` is given."""

GRID_OPTION = Option(
    "Keypoints along each side of the grid: the shards', or what divides it, of which every n-th is taken. "
    "[default: the shards']",
    needs="motion",
    of_motion=True,
)
HORIZON_OPTION = Option(
    "Steps of motion: the first so many of the shards'. [default: the shards']", needs="motion", of_motion=True
)
LAYERS_OPTION = Option(
    "Layers of the Motion Expert. [default: tiny 2, paper 12]", name="motion_layers", needs="motion", of_motion=True
)
HEADS_OPTION = Option(
    "Attention heads of the Motion Expert; its width is heads times 32 in tiny, times 64 in paper. [default: tiny 4, "
    "paper 16]",
    name="motion_heads",
    needs="motion",
    of_motion=True,
)
MOTION_TARGET_OPTION = Option(
    "What the motion network gives: velocity (paper), or data, from which the velocity follows: motion is 30 times "
    "smaller than the noise, and a velocity is mostly noise. [default: tiny data, paper velocity]",
    needs="motion",
    of_motion=True,
)
MOTION_INPUT_OPTION = Option(
    "What it sees of the noisy motion: state (paper), or gain: the state times the gain of the best linear estimate, 0 "
    "at t = 0; noise of 1 would drown everything else. Needs the target data. [default: tiny gain, paper state]",
    needs="motion",
    of_motion=True,
)
MOTION_OUTPUT_OPTION = Option(
    "The unit of what it gives: published (0.05 of the picture), or sigma: the standard deviation of the training set, "
    "so that the network's numbers are about 1. Needs the target data. [default: tiny sigma, paper published]",
    needs="motion",
    of_motion=True,
)
FEATURE_NORM_OPTION = Option(
    "Features as they are (none, paper), or standardised for each place in the prompt and each channel over the "
    "training set (index): what differs between samples is small beside what all have. [default: tiny index, paper "
    "none]",
    needs="motion",
    of_motion=True,
)
FEATURE_PLACES_OPTION = Option(
    "What tells the Motion Expert where in the prompt a feature stands: none (paper) or learned, an embedding of its "
    "place. [default: tiny learned, paper none]",
    needs="motion",
    of_motion=True,
)
FEATURE_SUMMARY_OPTION = Option(
    "Numbers of each feature that enter, all in order, every adaptive norm beside the flow time; 0: none (paper). "
    "[default: tiny 16, paper 0]",
    needs="motion",
    of_motion=True,
)
POLICY_FEATURES_OPTION = Option(
    "Features as the policy gets them: as they are (none, paper), or standardised like the Motion Expert's (index), "
    "over the training set of stage 2, before motion guides them. [default: none]",
    name="policy_feature_norm",
    stage=2,
)
BACKBONE_OPTION = Option(
    "qwen3-vl (paper), openvla-7b, or any model of transformers: transformers-vlm:weights=OWNER/NAME,revision=COMMIT. "
    "Stage 2 takes that of stage 1. [default: qwen3-vl]",
    of_motion=True,
    plugin=Choice(BACKBONES, filled=("architecture_only",)),
)
FUSION_OPTION = Option(
    "how motion enters the features: gated (paper), add, concat or gated-tokens, with options as in "
    "gated-tokens:layers=2. [default: gated]",
    stage=2,
    needs="motion",
    plugin=Choice(FUSIONS, filled=("feature_width", "motion_width"), carries=True),
)
HEAD_OPTION = Option(
    "flow-matching (paper) or binned, with options as in binned:bins=256. [default: flow-matching]",
    stage=2,
    plugin=Choice(ACTION_HEADS, filled=("sizes", "feature_width")),
)
ORIENTATIONS = ("upright", "mirrored", "rotated-180")
ORIENTATION_OPTION = Option(
    "How the backbone sees images: upright, as the shards hold them, mirrored, as the authors' weights saw LIBERO, or "
    "rotated-180. Images given to a policy are upright in any case. [default: upright; with the authors' motion "
    "weights on LIBERO mirrored]",
    of_motion=True,
)


@dataclass(frozen=True)
class MotionConfig:
    """Sizes of the Motion Expert; the defaults are the paper's.

    Attributes:
        time_channels: channels of the sinusoidal embedding of the flow time.
        steps_per_frame: adjacent steps packed into one frame of tokens; 0: all steps of the horizon.
        patch_size: keypoints along each side of a token.
        conditioning_tokens: the fixed number of conditioning tokens when padding is ``repeat``; also the number of
            prompt positions that ``feature_norm``, ``feature_places`` and ``feature_summary`` distinguish. Later
            features are treated like the last of these, and are not in the summary.
        denoising_steps: Euler steps of a full rollout; guidance takes the first ``guidance_steps`` of them.
        depth: false masks the depth component in the network's input and output: a prior of 2D motion (the paper's
            ablation).
        motion_target, motion_input, motion_output: what the network predicts, how the noisy motion is scaled on input,
            and the unit of the output (``lamp_model.networks.flow_matching``). Statistics of the training set that
            these need are kept in buffers and saved with the weights.
        feature_norm, feature_places, feature_summary: how the features are processed on input
            (``lamp_model.networks.conditioning``).
    """

    layers: Annotated[int, LAYERS_OPTION] = 12
    heads: Annotated[int, HEADS_OPTION] = 16
    head_dim: int = 64
    time_channels: int = 512
    patch_size: int = 2
    steps_per_frame: int = 2
    dropout: float = 0.1
    grid: Annotated[int, GRID_OPTION] = GRID
    horizon: Annotated[int, HORIZON_OPTION] = HORIZON
    conditioning_tokens: int = 256
    denoising_steps: int = 10
    guidance_steps: Annotated[
        int, Option("denoising steps before the motion guides, 0 to 10. [default: 1]", stage=2, needs="motion")
    ] = 1
    depth: bool = True
    motion_target: Annotated[Literal["velocity", "data"], MOTION_TARGET_OPTION] = "velocity"
    motion_input: Annotated[Literal["state", "gain"], MOTION_INPUT_OPTION] = "state"
    motion_output: Annotated[Literal["published", "sigma"], MOTION_OUTPUT_OPTION] = "published"
    feature_norm: Annotated[Literal["none", "index"], FEATURE_NORM_OPTION] = "none"
    feature_places: Annotated[Literal["none", "learned"], FEATURE_PLACES_OPTION] = "none"
    feature_summary: Annotated[int, FEATURE_SUMMARY_OPTION] = 0

    def __post_init__(self) -> None:
        self._check_learning_options()
        sizes = ["heads", "head_dim", "time_channels", "patch_size", "grid", "horizon"]
        sizes += ["steps_per_frame"] if self.steps_per_frame else []
        check_sizes(self, (*sizes, "conditioning_tokens"), counts=("layers", "denoising_steps"))
        check_dropout(self.dropout)
        if self.grid % self.patch_size or self.horizon % self.packed_steps:
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

    def _check_learning_options(self) -> None:
        for name, known in (
            ("motion_target", ("velocity", "data")),
            ("motion_input", ("state", "gain")),
            ("motion_output", ("published", "sigma")),
            ("feature_norm", ("none", "index")),
            ("feature_places", ("none", "learned")),
        ):
            if getattr(self, name) not in known:
                flag = name.replace("_", "-")
                raise ValueError(f"{flag} must be {known[0]} or {known[1]}, found {getattr(self, name)!r}")
        if not 0 <= self.feature_summary <= LARGEST:
            raise ValueError(f"feature-summary must lie between 0 and {LARGEST}, found {self.feature_summary}")
        if self.motion_target == "velocity" and (self.motion_input, self.motion_output) != ("state", "published"):
            raise ValueError(
                f"motion-input {self.motion_input} and motion-output {self.motion_output} belong to the target data: a "
                "velocity is mostly noise, so give --motion-target data, or --motion-input state and --motion-output "
                "published"
            )

    @property
    def needs_statistics(self) -> bool:
        """Whether statistics of the training set are saved with the weights."""
        return self.scaled or self.feature_norm != "none"

    @property
    def scaled(self) -> bool:
        """Whether the standard deviation of the motion is one of these statistics."""
        return self.motion_input == "gain" or self.motion_output == "sigma"

    @property
    def width(self) -> int:
        """Width of the transformer and of its hidden state."""
        return self.heads * self.head_dim

    @property
    def channels(self) -> int:
        """Channels of a packed frame."""
        return 3 * self.packed_steps

    @property
    def packed_steps(self) -> int:
        """Adjacent steps in one frame of tokens."""
        return self.steps_per_frame or self.horizon

    @property
    def frames(self) -> int:
        """Number of packed frames."""
        return self.horizon // self.packed_steps

    @property
    def tokens(self) -> int:
        """M, the number of motion tokens."""
        return self.frames * (self.grid // self.patch_size) ** 2


@dataclass(frozen=True)
class ActionConfig:
    """Sizes of the Action Expert; the defaults are the paper's for LIBERO.

    Attributes:
        action_size: A, dimensions of an action.
        state_size: S, dimensions of a state.
        chunk: H, actions predicted at once.
        positions: the longest sequence of action and feature tokens together.
        denoising_steps: Euler steps of a prediction.
    """

    action_size: int = 7
    state_size: int = 8
    chunk: Annotated[int, Option("actions predicted at once. [default: 10]", stage=2)] = 10
    layers: int = 24
    width: int = 1024
    heads: int = 16
    mlp_ratio: int = 4
    dropout: float = 0.1
    positions: Annotated[
        int,
        Option(
            "the longest sequence of actions and features together; OpenVLA's two images need 640. [default: 512]",
            stage=2,
        ),
    ] = 512
    denoising_steps: int = 10

    def __post_init__(self) -> None:
        sizes = ["width", "heads", "mlp_ratio", "positions"]
        sizes += [
            name for name in ("action_size", "state_size") if getattr(self, name)
        ]  # plain video has neither states nor actions
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
    """The config of the module tree.

    Attributes:
        backbone: a plug-in of ``lamp_model.backbones``, with its options.
        fusion: a plug-in of ``lamp_model.fusions``, with its options (widths are filled in).
        action: sizes of the Action Expert.
        action_head: a plug-in of ``lamp_model.action_heads``, with its options (sizes and widths are filled in).
        feature_norm: how the features are processed before they are guided and acted on
            (``lamp_model.networks.conditioning``); ``index`` distinguishes as many places in the prompt as the Action
            Expert has positions. The Motion Expert gets them as they come, and has a setting of its own.
        lora_rank: of adapters beside projections of the backbone's language model, which are trained; 0: no adapters.
        lora_modules: last names of the linear layers that get adapters.
        cameras: roles of the images, in the backbone's input order.
        guided: false leaves Motion Expert and guidance out: a policy without a motion prior (the paper's ablation).
        image_orientation: of the networks' input images, and so the image frame of their motion. Shards and callers
            have upright images; the authors' weights were trained on mirrored LIBERO images (the simulator's are upside
            down, and theirs are those rotated by 180 degrees).
        padding: ``masked`` excludes padding from every attention, so that a sample's output does not depend on the
            other samples of its batch; ``repeat`` is the published checkpoints' training setting.
    """

    backbone: Annotated[str, BACKBONE_OPTION] = "qwen3-vl"
    backbone_options: dict[str, Any] = field(default_factory=dict)
    motion: MotionConfig = field(default_factory=MotionConfig)
    fusion: Annotated[str, FUSION_OPTION] = "gated"
    fusion_options: dict[str, Any] = field(default_factory=dict)
    action: ActionConfig = field(default_factory=ActionConfig)
    action_head: Annotated[str, HEAD_OPTION] = "flow-matching"
    action_head_options: dict[str, Any] = field(default_factory=dict)
    feature_norm: Annotated[Literal["none", "index"], POLICY_FEATURES_OPTION] = "none"
    lora_rank: Annotated[
        int,
        Option(
            "Adapters of this rank learn in the backbone's --lora-modules; needs peft. [default: 0, none; with "
            "--train-backbone lora 16]",
        ),
    ] = 0
    lora_modules: Annotated[
        tuple[str, ...],
        Option(
            "Names of the linear layers of its language model that get adapters; queries and keys change where it "
            "looks, v_proj, o_proj, gate_proj, up_proj and down_proj also what it says. [default: q_proj k_proj]"
        ),
    ] = LORA_MODULES
    cameras: tuple[str, ...] = ("image", "wrist")
    image_orientation: Annotated[Literal["upright", "mirrored", "rotated-180"], ORIENTATION_OPTION] = "upright"
    padding: Literal["masked", "repeat"] = "masked"
    guided: bool = True

    def __post_init__(self) -> None:
        if self.padding not in ("masked", "repeat"):
            raise ValueError(f"padding must be masked or repeat, found {self.padding!r}")
        if self.feature_norm not in ("none", "index"):
            raise ValueError(f"policy-feature-norm must be none or index, found {self.feature_norm!r}")
        if self.image_orientation not in ORIENTATIONS:
            raise ValueError(
                f"image-orientation must be one of {', '.join(ORIENTATIONS)}, found {self.image_orientation!r}"
            )
        check_rank(self.lora_rank)
        if not self.lora_modules or not all(name.isidentifier() for name in self.lora_modules):
            raise ValueError(f"lora-modules must be names of layers, found {' '.join(self.lora_modules) or 'none'}")

    @property
    def flips(self) -> tuple[bool, bool]:
        """Whether the columns and the rows of the networks' input images are in reverse order."""
        return FLIPS[self.image_orientation]


def check_sizes(config: object, sizes: Iterable[str], counts: Iterable[str]) -> None:
    """Check fields of a config: sizes must be in 1..65,536, counts of layers and steps in 1..1,000.

    Raises:
        ValueError: a field is out of range.
    """
    for names, most in ((sizes, LARGEST), (counts, MOST_LAYERS)):
        for name in names:
            value = getattr(config, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} must lie between 1 and {most}, found {value}")


def check_dropout(dropout: float) -> None:
    """Refuse a dropout outside [0, 1).

    Raises:
        ValueError: it is outside.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, found {dropout}")


def check_rank(rank: int) -> None:
    """Refuse invalid ranks, and any rank above 0 when peft is not installed.

    Raises:
        ValueError: the rank is invalid, or peft is missing.
    """

    from importlib.util import find_spec

    if rank < 0:
        raise ValueError(f"lora-rank must not be negative, found {rank}")
    if rank and find_spec("peft") is None:
        raise ValueError("lora-rank needs the library peft, which is not installed: pip install 'lamp-robotics[lora]'")
