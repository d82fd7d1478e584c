"""A step's losses and gradients, one micro-batch after the other, and how large a micro-batch may be."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float

from lamp_model.config import TrainingConfig
from lamp_model.data.batch import Batch
from lamp_model.data.loader import Loader
from lamp_model.errors import BadRun
from lamp_model.model import learning_modules
from lamp_model.networks.precision import autocast
from lamp_model.training.clock import StepClock
from lamp_model.training.distributed.ranks import Ranks
from lamp_model.training.distributed.replicas import Replicas, StageLoss, is_sharded
from lamp_model.training.out_of_memory import enough_memory, fitting
from lamp_model.training.rng import Purpose, generator, seed_dropout
from lamp_model.training.stages import Stage, StepDraws


def draws_of(stage: Stage, config: TrainingConfig, step: int) -> StepDraws:
    """The random numbers of a step for every place in the global batch; each rank draws all of them."""
    return stage.draw(config.batch_size, generator(stage.model.device, config.seed, Purpose.NOISE, step))


def rows_of(draws: StepDraws, first: int, last: int) -> StepDraws:
    """The random numbers of the places first..last - 1."""
    return {use: {name: numbers[first:last] for name, numbers in one.items()} for use, one in draws.items()}


@dataclass(frozen=True)
class Passes:
    """Forward and backward passes of a rank's samples, one micro-batch after the other.

    Attributes:
        micro_batch: samples in one pass.
        first: place of the rank's first sample in the global batch.
        seed: of the run; dropout draws by it, the step and a micro-batch's first place.
        clock: measures both passes.
    """

    replicas: Replicas
    micro_batch: int
    first: int
    seed: int
    clock: StepClock

    def run(self, step: int, batch: Batch, draws: StepDraws, counts: dict[str, int]) -> Float[torch.Tensor, " n"]:
        """Add up the gradients of a step. They are summed over the ranks with the last micro-batch.

        Args:
            batch: this rank's samples.
            draws: for every place in the global batch.
            counts: number of valid entries behind each term of the loss, in the global batch.

        Returns:
            What the samples contribute to each term, in the order of ``counts``.

        Raises:
            OutOfMemory: the device's memory is too small for a micro-batch.
        """
        device = self.replicas.module.model.device
        total = torch.zeros(len(counts), device=device)
        for start in range(0, batch.size, self.micro_batch):
            end = min(start + self.micro_batch, batch.size)
            places = self.first + start, self.first + end
            seed_dropout(self.seed, step, places[0])
            rows = batch.rows(start, end).to(device)
            with _memory_for(device, end - start), self.replicas.accumulating(last=end == batch.size):
                with autocast(device), self.clock.measured("forward"):
                    shares = self.replicas.shares(rows, rows_of(draws, *places), counts)
                with self.clock.measured("backward"):
                    self.replicas.backward(shares.sum())
            total += shares.detach()
        return total


def _memory_for(device: torch.device, samples: int) -> AbstractContextManager[None]:
    lower = f"give --micro-batch {samples // 2} or less, or auto, which finds what fits"
    alone = "add --checkpoint-activations, or take a smaller model or a larger GPU"
    work = f"the forward and backward pass of {samples} sample{'s' * (samples > 1)}"
    return enough_memory(device, work, lower if samples > 1 else alone)


def chosen_micro_batch(
    asked: int | Literal["auto"] | None,
    stage: Stage,
    config: TrainingConfig,
    loader: Loader,
    ranks: Ranks,
    learning: int,
) -> int:
    """Samples of a rank in one pass: as asked, else all of them; for ``auto`` the largest number, halving, that fits on
    every rank.

    Args:
        learning: bytes of the weights that learn; AdamW keeps two moments of each.

    Raises:
        BadRun: ``auto`` was asked for, and the ranks hold parts of one model: one that ran out of memory would leave
            the others waiting.
        OutOfMemory: not even one sample fits.
    """
    first, last = loader.places
    if asked != "auto":
        return min(asked or last - first, last - first)
    if is_sharded(learning_modules(stage.model.config, config), ranks):
        raise BadRun(
            "--micro-batch auto is not possible where several ranks train the backbone, of which each holds a part: "
            "give a number of samples"
        )
    attempt = partial(_attempt, stage, config, loader)
    device = stage.model.device
    chosen = ranks.agreed(partial(fitting, attempt, last - first, device, 2 * learning), quick=False)
    chosen = min(ranks.gather(chosen))
    print(f"micro-batch: {chosen} of a rank's {last - first} samples at once")
    return chosen


def _attempt(stage: Stage, config: TrainingConfig, loader: Loader, samples: int) -> None:
    """Forward and backward pass of the first samples; neither weights nor gradients are left changed."""
    batch = loader.batch(0).rows(0, samples)
    counts = stage.counts(batch)
    try:
        with autocast(stage.model.device):
            draws = rows_of(draws_of(stage, config, 0), 0, samples)
            loss = StageLoss(stage)(batch.to(stage.model.device), draws, counts).sum()
        loss.backward()
    finally:
        stage.model.zero_grad(set_to_none=True)
