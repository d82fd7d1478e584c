"""``lamp-train --dry-run``: what a run will take, from its config and a model without weights."""

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from lamp_model.config import RunConfig, TrainingConfig
from lamp_model.data.dataset import TrainingData
from lamp_model.data.loader import Loader
from lamp_model.model import MotionModel, PolicyModel, outline
from lamp_model.storage.run_folder import local_backbone
from lamp_model.training.flops import PEAKS, Device, sample_flops
from lamp_model.training.init_motion import backbone_source
from lamp_model.training.memory import Memory, ModuleMemory, training_memory
from lamp_model.training.stages import Stage
from lamp_model.training.trainer import Trainer
from schemas.durations import duration

GIB = 2**30
USABLE = 0.97
"""Share of a GPU's nominal memory that a driver leaves."""
TIMED, UNTIMED = 4, 2
"""Steps that are timed, and steps before them."""


@dataclass(frozen=True)
class Machines:
    """The GPUs that a run is planned for.

    Attributes:
        kind: a name in ``lamp_model.training.flops.PEAKS``.
        count: number of GPUs.
        mfu: model FLOPs utilisation that is assumed, 0..1.
    """

    kind: str = "h100"
    count: int = 1
    mfu: float = 0.3

    def __post_init__(self) -> None:
        if self.kind not in PEAKS:
            raise ValueError(f"gpu must be one of {', '.join(PEAKS)}, found {self.kind!r}")
        if self.count < 1:
            raise ValueError(f"gpus must be at least 1, found {self.count}")
        if not 0 < self.mfu <= 1:
            raise ValueError(f"mfu must be above 0 and at most 1, found {self.mfu}")

    @property
    def device(self) -> Device:
        """The kind of the GPUs."""
        return PEAKS[self.kind]


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        micro_batch: samples of a device in one pass.
        tokens: length of the first samples' longest prompt with its images.
        flops: of a sample, by module.
    """

    config: RunConfig
    machines: Machines
    micro_batch: int
    tokens: int
    flops: dict[str, int]
    memory: Memory

    @property
    def checkpoint_bytes(self) -> int:
        """Size of one checkpoint: weights, both moments, and the average with ``--ema``."""
        trained = sum(module.trained for module in self.memory.modules)
        return trained * 4 * (4 if self.config.training.ema else 3)

    @property
    def disk_bytes(self) -> int:
        """The most that checkpoints take: those kept, the best, and the one that is being written."""
        return self.checkpoint_bytes * (self.config.training.keep + 2)

    @property
    def samples_per_second(self) -> float:
        """On the planned machines at the assumed utilisation."""
        return self.machines.device.peak * self.machines.count * self.machines.mfu / sum(self.flops.values())

    @property
    def hours(self) -> float:
        """For all steps."""
        training = self.config.training
        return training.steps * training.batch_size / self.samples_per_second / 3600

    def too_large(self) -> str | None:
        """Why it does not fit into the memory of a GPU: which module takes most, and what to lower. None if it fits."""
        limit = int(self.machines.device.memory_gb * USABLE * GIB)
        need = self.memory.total(self.micro_batch)
        if need <= limit:
            return None
        most, training = self.memory.largest_micro_batch(limit), self.config.training
        share = f"needs {need / GIB:.1f} GiB, and a GPU of kind {self.machines.kind} has {limit / GIB:.1f}"
        if most >= 1:
            worst = max(self.memory.modules, key=lambda module: module.sample + module.working)
            takes = (worst.sample + worst.working) * self.micro_batch / GIB
            kept = "" if training.checkpoint_activations else ", or add --checkpoint-activations"
            return (
                f"a micro-batch of {self.micro_batch} {share}: most of what grows with it is in {worst.name} "
                f"({takes:.1f} GiB of activations); lower --micro-batch to {most}{kept}"
            )
        worst = max(self.memory.modules, key=lambda module: module.fixed + module.sample)
        return (
            f"not even one sample fits: it {share.replace('needs', 'takes')}, most of it in {worst.name} "
            f"({worst.fixed / GIB:.1f} GiB of weights, gradients and optimiser state, {worst.sample / GIB:.1f} of "
            f"activations a sample); {_remedy(self.config)}"
        )

    def lines(self) -> list[str]:
        """The plan for a reader."""
        training, machines = self.config.training, self.machines
        compute = ", ".join(f"{name} {_giga(count)}" for name, count in self.flops.items())
        samples, most = training.steps * training.batch_size, machines.device.memory_gb * USABLE
        fits = self.memory.largest_micro_batch(int(most * GIB))
        return [
            *_table(self.memory, self.micro_batch),
            f"memory   {self.memory.total(self.micro_batch) / GIB:.1f} GiB on each GPU at a micro-batch of "
            f"{self.micro_batch}, estimated; of kind {machines.kind} ({most:.1f} GiB) a GPU takes up to {fits:,}",
            f"compute  {_giga(sum(self.flops.values()))} GFLOP a sample of {self.tokens} tokens, forward and "
            f"backward: {compute}",
            f"disk     {self.disk_bytes / GIB:.2f} GiB for checkpoints: {self.checkpoint_bytes / GIB:.2f} each, the "
            f"newest {training.keep}, the best and the one being written",
            f"time     {duration(self.hours * 3600)} for {training.steps:,} steps of {training.batch_size} samples on "
            f"{machines.count} GPU{'s' if machines.count > 1 else ''} of kind {machines.kind} at an assumed MFU of "
            f"{machines.mfu:.0%}: {self.samples_per_second:,.1f} samples/s, {samples:,} samples, "
            f"{samples / max(self.config.data.samples, 1):,.1f} times through the data",
        ]


def plan(
    config: RunConfig,
    folder: Path,
    data: TrainingData,
    machines: Machines,
    micro_batch: int | Literal["auto"] | None = None,
) -> Plan:
    """Plan a run; no weights are read.

    Args:
        folder: of the run; it need not exist.
        micro_batch: None: all samples of a device at once; auto: as many as fit, at least one.

    Raises:
        ValueError: the model cannot be built.
    """
    model_config = local_backbone(backbone_source(folder, config.motion_run), config.model)
    model = outline(MotionModel if config.training.stage == 1 else PolicyModel, model_config)
    tokens = prompt_tokens(model, data)
    flops = sample_flops(model, config.training, tokens)
    memory = training_memory(model, config.training, tokens, machines.count)
    share = math.ceil(config.training.batch_size / machines.count)
    most = max(memory.largest_micro_batch(int(machines.device.memory_gb * USABLE * GIB)), 1)
    at_once = min(most if micro_batch == "auto" else micro_batch or share, share)
    return Plan(config, machines, at_once, tokens, flops, memory)


def prompt_tokens(model: MotionModel, data: TrainingData) -> int:
    """L of the features, of the longest text of the first sample of each build."""
    texts = [text for triplet in data.first_samples() for text in triplet.instructions] or [""]
    return max(model.qwen_vl_interface.length(text, len(model.config.cameras)) for text in texts)


@dataclass(frozen=True)
class Timed:
    """A few steps on this machine.

    Attributes:
        memory_gb: GiB, see ``lamp_model.training.clock.StepClock``.
    """

    samples_per_second: float
    memory_gb: float
    device: str

    def line(self) -> str:
        """For a reader."""
        return (
            f"here     {self.samples_per_second:,.1f} samples/s and {self.memory_gb:.1f} GiB in {TIMED} steps on "
            f"{self.device}"
        )


def timed_steps(
    stage: Stage,
    loader: Loader,
    training: TrainingConfig,
    micro_batch: int | Literal["auto"] | None = None,
    steps: int = TIMED,
) -> Timed:
    """Train a few steps on the model's device, in a folder that is removed.

    Raises:
        CorruptShard, BadSample, TrainingFailed: see ``Trainer.run``.
    """
    device = stage.model.device
    with tempfile.TemporaryDirectory(prefix="lamp-dry-run-") as folder:
        trainer = Trainer(stage, training, Path(folder), loader, None, micro_batch=micro_batch)
        for number, batch in enumerate(loader.batches(0, UNTIMED + steps)):
            if number == UNTIMED:
                _wait(device)
                trainer.clock.reset()
                began = time.perf_counter()
            trainer.step(batch)
        _wait(device)
        rate = steps * training.batch_size / (time.perf_counter() - began)
        trainer.writer.close()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
        return Timed(rate, trainer.clock.memory_gb(), name)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _remedy(config: RunConfig) -> str:
    if config.training.train_backbone == "full":
        return "train adapters only (--train-backbone lora), or divide it between more GPUs (--gpus)"
    smaller = " or a smaller --preset" if config.preset == "paper" else ""
    return f"take GPUs with more memory{smaller}"


def _table(memory: Memory, micro_batch: int) -> list[str]:
    heads = ("GiB of", "parameters", "of which learn", "weights", "gradients", "optimiser", "activations", "together")
    rows = [heads, *(_row(module, micro_batch) for module in memory.modules)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(width) for c, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _row(module: ModuleMemory, micro_batch: int) -> tuple[str, ...]:
    activations = (module.sample + module.working) * micro_batch
    sizes = (module.weights, module.gradients, module.optimiser, activations, module.fixed + activations)
    counts = (f"{module.parameters / 1e6:,.1f} M", f"{module.trained / 1e6:,.1f} M")
    return (module.name, *counts, *(f"{size / GIB:.2f}" for size in sizes))


def _giga(count: int) -> str:
    return f"{count / 1e9:,.0f}" if count >= 1e10 else f"{count / 1e9:.2g}"


def _duration(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} minutes"
