"""The training loop of both stages: batch, loss, step, and regular validation and checkpoints."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch

from lamp_model.config import TrainingConfig
from lamp_model.data.batch import Batch
from lamp_model.data.loader import Loader
from lamp_model.model import learning_modules
from lamp_model.networks.precision import autocast
from lamp_model.networks.weights import load_weights
from lamp_model.storage.checkpoint_writer import CheckpointWriter
from lamp_model.storage.checkpoints import Checkpoint, load_newest
from lamp_model.storage.run_folder import CHECKPOINTS, METRICS, module_names, module_weights
from lamp_model.training.distributed.ranks import ALONE, Ranks
from lamp_model.training.distributed.replicas import Replicas
from lamp_model.training.metrics import MetricsLog
from lamp_model.training.motion_report import validation_line
from lamp_model.training.optimisation import Optimisation
from lamp_model.training.parameters import check_learning, describe_learning, set_learning, training_mode
from lamp_model.training.rng import Purpose, generator, seed_dropout
from lamp_model.training.stages import Stage, StepDraws
from lamp_model.training.stopping import Stopped, StopRequest
from lamp_model.training.tally import Tally, merged
from schemas.progress import Progress, open_progress


class TrainingFailed(RuntimeError):
    """Training cannot go on; one sentence says why and what to try."""


class Stepped(NamedTuple):
    """What a step found, over the global batch.

    Attributes:
        loss: of the global batch, before the step.
        norm: of its gradient, before clipping.
    """

    loss: float
    norm: float


class Trainer:
    """Trains one stage in a run's folder, alone or as one of several ranks.

    A step is a function of (seed, step, place in the global batch): neither the number of ranks nor the micro-batch
    changes samples, noise or, but for rounding and dropout, the loss and its gradient.

    Attributes:
        done: optimiser steps done; with the run's config it determines the next batches and random numbers.
        ranks: this process among those that train the run.
        micro_batch: samples of this rank in one forward and backward pass.
    """

    def __init__(
        self,
        stage: Stage,
        config: TrainingConfig,
        folder: Path,
        train: Loader,
        validation: Loader | None,
        ranks: Ranks = ALONE,
        micro_batch: int | None = None,
    ):
        """Take a built model on its device, and go on from the folder's newest checkpoint if there is one.

        Args:
            micro_batch: None: all samples of this rank at once.

        Raises:
            BadCheckpoint: the checkpoint is damaged or of another model.
        """
        self.stage, self.config, self.folder = stage, config, folder
        self.train, self.validation, self.ranks = train, validation, ranks
        self.micro_batch = micro_batch or config.batch_size
        self.modules = learning_modules(stage.model.config, config)
        self.learning = set_learning(stage.model, self.modules)
        stage.model.checkpoint_activations(config.checkpoint_activations)
        self.optimisation = Optimisation(self.learning, config)
        self.done = ranks.agreed(self._restore)
        self.replicas = Replicas(stage, ranks)
        self.writer = CheckpointWriter(folder / CHECKPOINTS)
        self.log = MetricsLog(folder / METRICS, self.done) if ranks.first else None
        self._began, self._seen = time.perf_counter(), 0
        self._stop = StopRequest()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.stage.model.device

    def run(self, stop: StopRequest | None = None) -> dict[str, float]:
        """Train to the last step, or until asked to stop.

        Returns:
            The last validation's figures.

        Raises:
            Stopped: stopping was requested; a checkpoint of the last step was written.
            TrainingFailed: the loss or its gradient is not finite; the weights are those of the step before.
            CorruptShard, BadSample: a sample cannot be used.
            OSError: the disk is full or failing.
            RankFailed, RankLost: another rank cannot go on.
        """
        self._stop = stop or StopRequest()
        self._stop.heeded = True
        try:
            return self._run()
        finally:
            self._stop.heeded = False
            self.writer.close()

    def _run(self) -> dict[str, float]:
        print(describe_learning(self.stage.model, self.learning))
        metrics = self.validate() if self.done == 0 else {}
        self._began, self._seen = time.perf_counter(), 0
        with closing(self._bar()) as bar:
            for batch in self._batches():
                stepped = self.step(batch)
                bar.update()
                if self._due(self.config.log_every):
                    self._write_progress(stepped, bar)
                if self._due(self.config.validate_every):
                    metrics = self.validate()
                if self._due(self.config.checkpoint_every):
                    self.save()
                self._stop_if_asked()
        self.ranks.agreed(self.writer.wait)
        return metrics

    def step(self, batch: Batch) -> Stepped:
        """One optimiser step.

        Args:
            batch: this rank's samples of the global batch.

        Raises:
            TrainingFailed: the loss or its gradient is not finite; the weights are as they were.
        """
        step = self.done
        self.optimisation.set_rate(step)
        draws = self._draws(step)
        counts = self.ranks.sums(self.stage.counts(batch))
        shares = self._accumulate(batch, draws, counts)
        if step == 0:
            self._check_gradients()
        norm = self.optimisation.norm()
        terms = self.ranks.add(shares)
        *values, length = torch.cat([terms, norm.float()[None]]).tolist()  # one device synchronisation
        if not math.isfinite(sum(values) + length):
            self._fail(dict(zip(counts, values, strict=True)), length)
        self.optimisation.step(norm)
        self.done += 1
        self._seen += self.config.batch_size
        return Stepped(sum(values), length)

    def _draws(self, step: int) -> StepDraws:
        """The random numbers of a step for every place in the global batch; each rank draws all of them."""
        return self.stage.draw(self.config.batch_size, generator(self.device, self.config.seed, Purpose.NOISE, step))

    def _accumulate(self, batch: Batch, draws: StepDraws, counts: dict[str, int]) -> torch.Tensor:
        """Forward and backward pass of this rank's samples, one micro-batch after the other.

        Args:
            draws: for every place in the global batch.
            counts: number of valid entries behind each term of the loss, in the global batch.

        Returns:
            What the samples contribute to each term, in the order of ``counts``. The gradients are summed over the
            ranks.
        """
        first, _ = self.train.places
        total = torch.zeros(len(counts), device=self.device)
        for start in range(0, batch.size, self.micro_batch):
            end = min(start + self.micro_batch, batch.size)
            seed_dropout(self.config.seed, self.done, first + start)
            rows = batch.rows(start, end).to(self.device)
            with self.replicas.accumulating(last=end == batch.size):
                with autocast(self.device):
                    shares = self.replicas.shares(rows, rows_of(draws, first + start, first + end), counts)
                self.replicas.backward(shares.sum())
            total += shares.detach()
        return total

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Evaluate the held-out episodes, with the same noise each time, and log the metrics.

        Ranks share the batches; their results are added in the order of the batches, so that the metrics do not depend
        on the number of ranks.
        """
        if self.validation is None:
            return {}
        began = time.perf_counter()
        self.stage.model.eval()
        metrics = self.stage.metrics(self._held_out(self.validation))
        training_mode(self.stage.model, self.modules)
        check_learning(self.stage.model, self.learning, self.modules)
        if self.log is not None:
            self.log.write(step=self.done, **metrics)
        if told := validation_line(metrics):
            over = "\r\033[K" if sys.stdout.isatty() and sys.stderr.isatty() else ""  # the bar's line
            print(f"{over}step {self.done}: {told}", flush=True)
        self._began += time.perf_counter() - began  # validation does not count for samples per second
        return metrics

    def _held_out(self, loader: Loader) -> Tally:
        """The tallies of all held-out batches, merged in their order."""
        count, found = -(-len(loader.numbers) // loader.batch_size), []
        for first in range(0, count, self.ranks.world):
            index = first + self.ranks.rank
            found.append(self.ranks.agreed(partial(self._evaluated, loader, index) if index < count else _nothing))
            self._stop_if_asked()
        rounds = zip(*self.ranks.gather(found), strict=True)
        return merged(tally for one in rounds for tally in one if tally is not None)

    def _evaluated(self, loader: Loader, index: int) -> dict[str, Any]:
        batch = loader.batch_in_order(index).to(self.device)
        chance = generator(self.device, self.config.seed, Purpose.VALIDATION, index)
        with autocast(self.device):
            return self.stage.evaluate(batch, chance, self.done == self.config.steps).as_json()

    def save(self) -> None:
        """Begin to write a checkpoint; rank 0 writes it.

        Raises:
            OSError: the checkpoint before this one could not be written.
        """
        weights = module_weights(self.stage.model, *self.modules)
        checkpoint = Checkpoint(self.done, weights, self.optimisation.state())
        self.ranks.agreed(lambda: self.writer.begin(checkpoint) if self.ranks.first else None)

    def _restore(self) -> int:
        folder = self.folder / CHECKPOINTS
        checkpoint = load_newest(folder)
        if checkpoint is None:
            return 0
        load_weights(self.stage.model, checkpoint.weights, module_names(self.stage.model, *self.modules), str(folder))
        self.optimisation.load(checkpoint.optimizer, str(folder))
        return checkpoint.step

    def _check_gradients(self) -> None:
        frozen = [n for n, p in self.stage.model.named_parameters() if p.grad is not None and n not in self.learning]
        if frozen:
            raise AssertionError(f"frozen parameters received gradients: {frozen[:5]}")

    def _batches(self) -> Iterator[Batch]:
        """This rank's samples of the steps that are left. A sample or a checkpoint that failed ends all ranks."""
        batches = self.train.batches(self.done, self.config.steps)

        def following() -> Batch:
            self.writer.check()
            return next(batches)

        while self.done < self.config.steps:
            yield self.ranks.agreed(following)

    def _due(self, every: int) -> bool:
        return self.done % every == 0 or self.done == self.config.steps

    def _stop_if_asked(self) -> None:
        """Raises:
        Stopped: a rank was asked to; a checkpoint of what was done stands.
        """
        if self.ranks.any(self._stop.asked):
            if self.done:
                self.save()
                self.ranks.agreed(self.writer.wait)
            raise Stopped(self.done or None)

    def _fail(self, terms: dict[str, float], norm: float) -> NoReturn:
        """Say which term of the loss is not finite, or else whose gradient."""
        wrong = [f"the {name} loss is {value}" for name, value in terms.items() if not math.isfinite(value)]
        if not wrong:
            names = [n for n, p in self.learning.items() if p.grad is not None and not p.grad.isfinite().all()]
            whose = names[0] if names else "all weights together"
            wrong = [f"the loss is finite, and the gradient of {whose} is not ({norm})"]
        raise TrainingFailed(
            f"{' and '.join(wrong)} at step {self.done + 1}, and the weights are still those of the step before: go on "
            f"from the last checkpoint with a lower rate, --resume --learning-rate {self.config.learning_rate / 10:g}, "
            "or look for damaged values in the shards"
        )

    def _write_progress(self, stepped: Stepped, bar: Progress) -> None:
        line = self._line(stepped)
        if self.log is not None:
            self.log.write(**line)
        bar.set_postfix_str(f"loss {stepped.loss:.4f}, {line['samples_per_second']:.1f} samples/s")

    def _line(self, stepped: Stepped) -> dict[str, Any]:
        """A line of the log; samples are those of all ranks."""
        rate = self._seen / max(time.perf_counter() - self._began, 1e-9)
        return {
            "step": self.done,
            "loss": stepped.loss,
            "learning_rate": self.optimisation.rate(self.done - 1),
            "gradient_norm": stepped.norm,
            "samples_per_second": round(rate, 2),
        }

    def _bar(self) -> Progress:
        return open_progress(f"stage {self.stage.number}", self.config.steps, "step", self.done)


def _nothing() -> None:
    """What a rank does that has no batch left."""


def rows_of(draws: StepDraws, first: int, last: int) -> StepDraws:
    """The random numbers of the places first..last - 1."""
    return {use: {name: numbers[first:last] for name, numbers in one.items()} for use, one in draws.items()}
