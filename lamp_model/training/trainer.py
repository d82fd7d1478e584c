"""The training loop of both stages: batch, loss, step, and regular validation and checkpoints."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import torch

from lamp_model.config import TrainingConfig
from lamp_model.data.batch import Batch
from lamp_model.data.loader import Loader
from lamp_model.model import learning_modules
from lamp_model.networks.weights import load_weights
from lamp_model.storage.checkpoint_writer import CheckpointWriter
from lamp_model.storage.checkpoints import Checkpoint, load_newest
from lamp_model.storage.run_folder import CHECKPOINTS, METRICS, module_names, module_weights
from lamp_model.training.accumulation import Passes, chosen_micro_batch, draws_of
from lamp_model.training.clock import StepClock
from lamp_model.training.distributed.ranks import ALONE, Ranks
from lamp_model.training.distributed.replicas import Replicas, weights_digest, whole
from lamp_model.training.following import Follower, followed
from lamp_model.training.held_out import evaluated
from lamp_model.training.metrics import MetricsLog
from lamp_model.training.motion_report import validation_line
from lamp_model.training.optimisation import Optimisation
from lamp_model.training.out_of_memory import enough_memory
from lamp_model.training.parameters import check_learning, describe_learning, set_learning, training_mode
from lamp_model.training.stages import Stage
from lamp_model.training.stopping import Stopped, StopRequest
from lamp_model.training.watch import UNWATCHED, Watch, figures, shown
from schemas.progress import Progress, open_progress


class TrainingFailed(RuntimeError):
    """Training cannot go on; one sentence says why and what to try."""


class _Left(Exception):
    """Validation was left, as the run was asked to stop."""


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
        passes: forward and backward passes of a step.
    """

    def __init__(
        self,
        stage: Stage,
        config: TrainingConfig,
        folder: Path,
        train: Loader,
        validation: Loader | None,
        ranks: Ranks = ALONE,
        micro_batch: int | Literal["auto"] | None = None,
        watch: Watch = UNWATCHED,
    ):
        """Take a built model on its device, and go on from the folder's newest checkpoint if there is one.

        Args:
            micro_batch: None: all samples of this rank at once; auto: as many as fit into the memory.
            watch: how the run is shown while it trains.

        Raises:
            BadCheckpoint: the checkpoint is damaged or of another model.
            OutOfMemory: not even one sample fits.
        """
        self.stage, self.config, self.folder = stage, config, folder
        self.train, self.validation, self.ranks = train, validation, ranks
        self.modules = learning_modules(stage.model.config, config)
        self.learning = set_learning(stage.model, self.modules)
        stage.model.checkpoint_activations(config.checkpoint_activations)
        checkpoint = ranks.agreed(self._restored_weights, quick=False)
        self.done = checkpoint.step if checkpoint else 0
        size = sum(p.numel() * p.element_size() for p in self.learning.values())
        chosen = chosen_micro_batch(micro_batch, stage, config, train, ranks, size)
        self.replicas = Replicas(stage, ranks, self.modules)
        self.clock = StepClock(self.device)
        self.passes = Passes(self.replicas, chosen, train.places[0], config.seed, self.clock)
        if self.replicas.sharded:  # other parameters took the place of the model's
            self.learning = {n: p for n, p in stage.model.named_parameters() if n in self.learning}
        self.follower = Follower(followed(stage.model, self.modules), self.replicas, train, ranks, chosen)
        self.optimisation = Optimisation(self.learning, config)
        if checkpoint:
            self.optimisation.load(checkpoint.optimizer, str(folder / CHECKPOINTS))
        self.writer = CheckpointWriter(folder / CHECKPOINTS, config.keep)
        self.watch = watch
        self.log = MetricsLog(folder / METRICS, self.done) if ranks.first else None
        self._validated: tuple[int, float] | None = None
        self._norms: dict[str, float] = {}
        self._began, self._seen = time.perf_counter(), 0
        self._stop, self._saved = StopRequest(), 0

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
        with shown(self.watch, self.folder, self.device, self.log) as after_step:
            return self._steps(after_step)

    def _steps(self, after_step: Callable[[], None]) -> dict[str, float]:
        metrics = self.validate() if self.done == 0 else {}
        self._began, self._seen = time.perf_counter(), 0
        self.clock.reset()
        with closing(self._bar()) as bar:
            for batch in self._batches():
                stepped = self.step(batch)
                after_step()
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
        self.follower.begin_step(step)
        self.optimisation.set_rate(step)
        draws = draws_of(self.stage, self.config, step)
        counts = self.ranks.sums(self.stage.counts(batch))
        shares = self.passes.run(step, batch, draws, counts)
        if step == 0:
            self._check_gradients()
        norm = self.optimisation.norm()
        norms = self.optimisation.norms() if self._due(self.config.log_every, step + 1) else {}
        terms = self.ranks.add(shares)
        found = [terms, norm.float()[None], *(one.float()[None] for one in norms.values())]
        values = torch.cat(found).tolist()  # one device synchronisation
        losses, length, lengths = values[: len(counts)], values[len(counts)], values[len(counts) + 1 :]
        if not math.isfinite(sum(losses) + length):
            self._fail(dict(zip(counts, losses, strict=True)), length)
        room = enough_memory(self.device, "the optimiser's step", "give a smaller --micro-batch, or auto")
        with room, self.clock.measured("step"):
            self.optimisation.step(norm)
        self.done += 1
        self.follower.end_step(self.done)
        self._seen += self.config.batch_size
        self._norms = dict(zip(norms, lengths, strict=True))
        return Stepped(sum(losses), length)

    def validate(self) -> dict[str, float]:
        """Evaluate the held-out episodes, with the same noise each time, and log the metrics.

        Ranks share the batches; their results are added in the order of the batches, so that the metrics do not depend
        on the number of ranks. With ``--ema`` the averaged weights are evaluated, which are those that are used later.
        """
        if self.validation is None:
            return {}
        began = time.perf_counter()
        self.stage.model.eval()
        last, ranks = self.done == self.config.steps, self.ranks
        try:
            with self.averaged():
                tally = evaluated(self.replicas, self.validation, ranks, self.config.seed, last, self._leave_if_asked)
        except _Left:  # a checkpoint holds the weights themselves, not their averages
            self._stop_if_asked()
            raise
        metrics = self.stage.metrics(tally)
        self._validated = self.done, metrics["val_loss"]
        training_mode(self.stage.model, self.modules)
        check_learning(self.stage.model, self.learning, self.modules)
        if self.log is not None:
            self.log.write(step=self.done, **metrics)
        if told := validation_line(metrics):
            over = "\r\033[K" if sys.stdout.isatty() and sys.stderr.isatty() else ""  # the bar's line
            print(f"{over}step {self.done}: {told}", flush=True)
        self._began += time.perf_counter() - began  # validation does not count for samples per second
        return metrics

    def save(self) -> None:
        """Begin to write a checkpoint. Rank 0 writes it, when every rank has come to this step with the same weights.

        Raises:
            TrainingFailed: the ranks hold different weights.
            OSError: the checkpoint before this one could not be written.
        """
        self._check_same_weights()
        step, loss = self._validated or (-1, math.nan)
        val_loss = loss if step == self.done and math.isfinite(loss) else None
        checkpoint = Checkpoint(self.done, self.weights(), whole(self.optimisation.state()), val_loss)
        self.ranks.agreed(lambda: self.writer.begin(checkpoint) if self.ranks.first else None)
        self._saved = self.done

    @contextmanager
    def averaged(self) -> Iterator[bool]:
        """Within this the model holds the averages of its weights, where there are any, with their statistics."""
        try:
            with self.optimisation.averaged() as any_averages:
                self.replicas.reshard()
                with self.follower.elsewhere() if any_averages else nullcontext():
                    yield any_averages
        finally:
            self.replicas.reshard()

    def weights(self) -> dict[str, torch.Tensor]:
        """The state of the modules that learn, whole. Every rank must call this."""
        return whole(module_weights(self.stage.model, *self.modules))

    def _check_same_weights(self) -> None:
        if self.ranks.world == 1 or self.replicas.sharded:
            return
        digests = self.ranks.gather([self.done, weights_digest(self.learning)])
        if any(digest != digests[0] for digest in digests):
            wrong = next(rank for rank, digest in enumerate(digests) if digest != digests[0])
            raise TrainingFailed(
                f"rank {wrong} holds other weights than rank 0 after step {self.done}, so one of them is wrong: "
                "test their GPUs and memory, and go on from the newest checkpoint with --resume"
            )

    def _restored_weights(self) -> Checkpoint | None:
        """Load the weights of the newest checkpoint; None where there is none."""
        folder = self.folder / CHECKPOINTS
        checkpoint = load_newest(folder, tidy=self.ranks.first)
        if checkpoint is not None:
            names = module_names(self.stage.model, *self.modules)
            load_weights(self.stage.model, checkpoint.weights, names, str(folder))
        return checkpoint

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
            with self.clock.measured("data"):
                batch = self.ranks.agreed(following)
            yield batch

    def _due(self, every: int, done: int | None = None) -> bool:
        done = self.done if done is None else done
        return done % every == 0 or done == self.config.steps

    def _leave_if_asked(self) -> None:
        if self.ranks.any(self._stop.asked):
            raise _Left

    def _stop_if_asked(self) -> None:
        """Raises:
        Stopped: a rank was asked to; a checkpoint of what was done stands.
        """
        if self.ranks.any(self._stop.asked):
            if self.done:
                if self._saved != self.done:
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
        found = figures(self.watch, self.clock, self.stage.model, rate, self.ranks.world)
        self.clock.reset()
        return {
            "step": self.done,
            "loss": stepped.loss,
            "learning_rate": self.optimisation.rate(self.done - 1),
            "gradient_norm": stepped.norm,
            "samples_per_second": round(rate, 2),
            **found,
            **{f"gradient_norm_{module}": norm for module, norm in self._norms.items()},
        }

    def _bar(self) -> Progress:
        return open_progress(f"stage {self.stage.number}", self.config.steps, "step", self.done)
