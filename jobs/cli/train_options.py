"""What ``lamp-train`` may be asked for, and the request that the answers describe.

Options that decide the run are those of ``lamp_model.config.RunConfig``, each declared there once; here stand those
that say what to train on, where and how.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import tyro

from jobs.cli.help_text import optional_in_words
from jobs.cli.option_tables import with_options_file
from lamp_model.config import RunConfig
from lamp_model.options import Option, options_in
from schemas.file_cache import DEFAULT_GIGABYTES
from schemas.locations import locate

if TYPE_CHECKING:
    from lamp_model.training.request import Request

Kind = TypeVar("Kind", bound=type)
DRY_RUN = ("dry_run", "gpus", "gpu", "mfu")
WHERE_AND_HOW = (
    *("recipe", "resume", "device", "threads", "cache", "cache_features", "cache_gb", "micro_batch", "workers"),
    *("track", "profile", *DRY_RUN),
)
"""Options that say where and how to run and not what to train: a file has none of them."""
OPTIONS = options_in(RunConfig)


def with_options_of_runs(kind: Kind) -> Kind:
    """Under ``@dataclass``: every option of a run as a field, None, or False for a switch, where it is not given."""
    for name, place in OPTIONS.items():
        shown = tyro.conf.arg(help=_help(place.option))
        hint = bool if place.kind is bool else place.kind | None
        kind.__annotations__[name] = Annotated[hint, shown]
        setattr(kind, name, False if place.kind is bool else None)
    return kind


def _help(option: Option) -> str:
    """The words of an option, and the stage that alone has it."""
    return f"Stage {option.stage}: {option.help}" if option.stage else option.help


@dataclass(frozen=True)
@optional_in_words
@with_options_of_runs
class Train:
    """Train a stage of LaMP from shards that lamp-data built.

    Stage 1 teaches the Motion Expert to generate scene flow. Stage 2 teaches Motion Guidance and the Action Expert to
    act; the Motion Expert of stage 1 is frozen and guides. An option that is not given is the preset's, or, with
    --resume, that of the run.

    lamp-train export RUN --output FOLDER writes a run as the authors publish their checkpoints; lamp-train merge RUN
    --output FOLDER merges adapters into the backbone.
    """

    URLS = ("data",)
    stage: Literal[1, 2] | None = None
    """1: motion, 2: policy."""
    recipe: Path | None = None
    """A file of these options, such as jobs/recipes/train/fusion_add.yaml; those given here go first. The run goes to
    runs/NAME of the file.
    """
    data: Path | None = None
    """Folder of shards, or a mixture (docs/mixtures.md), or the URL of one (docs/object-stores.md). With --resume,
    where the same shards are now. [default: shards/libero]"""
    output: Path | None = None
    """Folder of the run. [default: runs/stage1 or runs/stage2]"""
    motion: Path | None = None
    """Stage 2: the finished run of stage 1 to build on. [default: runs/stage1] Or a word for the motion prior: 3d
    (paper) or 2d (depth masked) in stage 1, none in stage 2."""
    motion_weights: str | None = None
    """Stage 2: motion weights in the authors' layout in place of a run of stage 1: a folder, a .pt or a name on the
    Hugging Face hub.
    """
    preset: Literal["tiny", "laptop", "small", "paper"] | None = None
    """tiny runs on any machine in minutes; laptop trains longer, on two cores, for benchmarks/prior.py; small is made
    for one GPU of 24 GB and downloads Qwen3-VL-2B-Instruct; paper is the published size, needs a large GPU and
    downloads Qwen3-VL-4B-Instruct. [default: tiny; in stage 2 that of stage 1]"""
    relative_depth: bool = False
    """Learn motion also from samples whose depth has no scale (docs/depth.md); they are refused otherwise."""
    resume: bool = False
    """Go on with the run in the output folder."""
    device: str = "auto"
    """auto takes a GPU when there is one; else cpu, cuda or cuda:N."""
    threads: int = 2
    """Threads that decode samples."""
    cache: float = DEFAULT_GIGABYTES
    """GB of this machine's disk for the shards of a URL. Shards beyond are read sample by sample. 0: all of them."""
    cache_features: Literal["auto", "on", "off"] = "auto"
    """Encode each sample once and keep the features on disk, below ~/.cache/lamp/features, for both stages and later
    runs on the same shards. auto: on where the backbone runs on the CPU and a sample is visited twice or more."""
    cache_gb: float = 4.0
    """GiB that the features of one set of shards may take there; further samples are encoded at every visit."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Also show the numbers of metrics.jsonl there while the run trains; each needs the extra of its name, and works
    without a network. [default: none]"""
    profile: int = 0
    """Write a trace of so many steps to profile/ in the run's folder. [default: 0, none]"""
    dry_run: bool = False
    """Say what the run will take and write nothing: parameters and memory by module, FLOPs of a sample, disk, hours on
    --gpus of the kind --gpu at --mfu; with a GPU here, or --device cpu, a few steps are timed too."""
    gpus: int = 1
    """Of the dry run: number of GPUs."""
    gpu: str | None = None
    """Of the dry run: their kind: b200, h200, h100, h100-pcie, a100-80gb, a100, l40s, l4, a10g or rtx4090. [default:
    the one here, else h100]"""
    mfu: float = 0.3
    """Of the dry run: the share of their arithmetic that the run will use (model FLOPs utilisation)."""

    micro_batch: Annotated[str | None, tyro.conf.arg(metavar="{N,auto}")] = None
    """Samples in one forward and backward pass on one device; their gradients add up to the batch's. auto: as many as
    fit into the GPU's memory, 16 on a CPU. [default: all that the device gets of a batch]"""
    workers: int | None = None
    """Train with so many processes of Ray Train on the Ray cluster that RAY_ADDRESS names or that runs here
    (docs/distributed.md); torchrun and srun need no option. [default: this process alone]"""

    if TYPE_CHECKING:  # the fields that the decorator adds

        def __init__(self, **options: Any) -> None: ...


def with_recipe(args: Train, path: Path) -> Train:
    """The options of a command line, those that were not given taken from a file. Without an output in either, the run
    goes to a folder of the file's name.

    Raises:
        BadFile: the file cannot be used; the message names the place in it.
    """
    return with_options_file(args, path, WHERE_AND_HOW, {"output": Path("runs") / path.stem})


def request_of(args: Train, output: Path) -> "Request":
    """The request for a run in a folder.

    Raises:
        ValueError: an option has an invalid value.
    """
    from lamp_model.training.request import MOTIONS, Request

    prior = str(args.motion) if str(args.motion) in MOTIONS else None
    assert args.stage is not None
    values = {name: getattr(args, name) for name in OPTIONS}
    return Request(
        stage=args.stage,
        data=args.data and locate(args.data),
        output=output,
        motion=None if prior else args.motion,
        prior=cast(Any, prior),
        motion_weights=args.motion_weights,
        preset=args.preset,
        options={name: value for name, value in values.items() if value is not None and value is not False},
        resume=args.resume,
        device=args.device,
        threads=args.threads,
        relative_depth=args.relative_depth,
        cache_features=args.cache_features,
        cache_gb=args.cache_gb,
        micro_batch=_micro_batch(args.micro_batch),
        track=args.track,
        profile=args.profile,
    )


def _micro_batch(text: str | None) -> "int | Literal['auto'] | None":
    if text is None or text == "auto":
        return cast(Any, text)
    if not text.isdecimal():
        raise ValueError(f"micro-batch must be a number of samples or auto, found {text!r}")
    return int(text)
