"""The training loop of both stages: batch, loss, step, and regular validation and checkpoints."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import torch

from lamp_model.config import TrainingConfig
from lamp_model.data.batch import Batch
from lamp_model.data.loader import Loader
from lamp_model.errors import BadCheckpoint
from lamp_model.model import learning_modules
from lamp_model.networks.lora import module_of
from lamp_model.networks.precision import autocast
from lamp_model.networks.weights import load_weights
from lamp_model.storage.checkpoints import Checkpoint, load_newest, save_checkpoint
from lamp_model.storage.run_folder import CHECKPOINTS, METRICS, module_names, module_weights
from lamp_model.training.metrics import MetricsLog
from lamp_model.training.motion_report import validation_line
from lamp_model.training.parameters import (
    CosineRate,
    check_learning,
    describe_learning,
    set_learning,
    training_mode,
)
from lamp_model.training.rng import Purpose, generator, seed_dropout
from lamp_model.training.stages import Losses, Stage
from lamp_model.training.stopping import Stopped, StopRequest
from schemas.progress import Progress, open_progress


class TrainingFailed(RuntimeError):
    """Training cannot go on; one sentence says why and what to try."""


class Trainer:
    """Trains one stage in a run's folder.

    Attributes:
        done: optimiser steps done; with the run's config it determines the next batches and random numbers.
    """

    def __init__(self, stage: Stage, config: TrainingConfig, folder: Path, train: Loader, validation: Loader | None):
        """Take a built model on its device, and go on from the folder's newest checkpoint if there is one.

        Raises:
            BadCheckpoint: the checkpoint is damaged or of another model.
        """
        self.stage, self.config, self.folder = stage, config, folder
        self.train, self.validation = train, validation
        self.modules = learning_modules(stage.model.config, config)
        self.learning = set_learning(stage.model, self.modules)
        stage.model.checkpoint_activations(config.checkpoint_activations)
        self.rate = CosineRate(config.steps, config.learning_rate, config.minimum_rate)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=config.learning_rate, betas=config.betas)
        self.done = self._restore()
        self.log = MetricsLog(folder / METRICS, self.done)
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
        """
        self._stop = stop or StopRequest()
        self._stop.heeded = True
        try:
            return self._run()
        finally:
            self._stop.heeded = False

    def _run(self) -> dict[str, float]:
        print(describe_learning(self.stage.model, self.learning))
        metrics = self.validate() if self.done == 0 else {}
        self._began, self._seen = time.perf_counter(), 0
        with closing(self._bar()) as bar:
            for batch in self.train.batches(self.done, self.config.steps):
                loss, norm = self.step(batch)
                bar.update()
                if self._due(self.config.log_every):
                    self._write_progress(loss, norm, bar)
                if self._due(self.config.validate_every):
                    metrics = self.validate()
                if self._due(self.config.checkpoint_every):
                    self.save()
                self._stop_if_asked()
        return metrics

    def step(self, batch: Batch) -> tuple[float, float]:
        """One optimiser step; loss and gradient norm before clipping.

        Raises:
            TrainingFailed: one of them is not finite; the weights are as they were.
        """
        step = self.done
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group["share"]
        seed_dropout(self.config.seed, step)
        chance = generator(self.device, self.config.seed, Purpose.NOISE, step)
        with autocast(self.device):
            losses = self.stage.losses(batch.to(self.device), chance)
            loss = sum(losses.values(), torch.zeros((), device=self.device))
        loss.backward()
        if step == 0:
            self._check_gradients()
        gradients = [p.grad for p in self.learning.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        value, length = torch.stack([loss.detach().float(), norm.float()]).tolist()  # one device synchronisation
        if not math.isfinite(value + length):
            self._fail(losses, length)
        torch.nn.utils.clip_grads_with_norm_(list(self.learning.values()), self.config.clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        self._seen += batch.size
        return value, length

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Evaluate the held-out episodes, with the same noise each time, and log the metrics."""
        if self.validation is None:
            return {}
        began = time.perf_counter()
        self.stage.model.eval()
        total, count = 0.0, 0
        for index, batch in enumerate(self._held_out(self.validation)):
            chance = generator(self.device, self.config.seed, Purpose.VALIDATION, index)
            with autocast(self.device):
                losses = self.stage.evaluate(batch, chance, self.done == self.config.steps)
            total += sum(float(loss) for loss in losses.values()) * batch.size
            count += batch.size
            self._stop_if_asked()
        training_mode(self.stage.model, self.modules)
        check_learning(self.stage.model, self.learning, self.modules)
        metrics = {"val_loss": total / count, **self.stage.metrics()}
        self.log.write(step=self.done, **metrics)
        if told := validation_line(metrics):
            over = "\r\033[K" if sys.stdout.isatty() and sys.stderr.isatty() else ""  # the bar's line
            print(f"{over}step {self.done}: {told}", flush=True)
        self._began += time.perf_counter() - began  # validation does not count for samples per second
        return metrics

    def save(self) -> None:
        """Write a checkpoint."""
        names = {id(parameter): name for name, parameter in self.learning.items()}
        moments = {
            f"{names[id(parameter)]}::{key}": value
            for parameter, state in self.optimizer.state.items()
            for key, value in state.items()
        }
        weights = module_weights(self.stage.model, *self.modules)
        save_checkpoint(self.folder / CHECKPOINTS, Checkpoint(self.done, weights, moments))

    def _restore(self) -> int:
        folder = self.folder / CHECKPOINTS
        checkpoint = load_newest(folder)
        if checkpoint is None:
            return 0
        load_weights(self.stage.model, checkpoint.weights, module_names(self.stage.model, *self.modules), str(folder))
        for entry, value in checkpoint.optimizer.items():
            name, _, key = entry.rpartition("::")
            if name not in self.learning:
                raise BadCheckpoint(f"{folder} holds the optimiser's state of {name!r}, which does not learn here")
            parameter = self.learning[name]
            # AdamW counts its steps on the CPU and keeps its moments beside the weights.
            self.optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
        return checkpoint.step

    def _groups(self) -> list[dict]:
        """Parameters by weight decay (matrices only) and by their share of the rate: where the objective is joint, the
        Motion Expert's is its own."""
        shares = {"motion_head": self.config.motion_rate / self.config.learning_rate} if self.config.stage == 2 else {}
        groups: dict[tuple[float, float], list] = {}
        for name, parameter in self.learning.items():
            decay = self.config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((decay, shares.get(module_of(name), 1.0)), []).append(parameter)
        return [{"params": g, "weight_decay": decay, "share": share} for (decay, share), g in groups.items()]

    def _check_gradients(self) -> None:
        frozen = [n for n, p in self.stage.model.named_parameters() if p.grad is not None and n not in self.learning]
        if frozen:
            raise AssertionError(f"frozen parameters received gradients: {frozen[:5]}")

    def _held_out(self, loader: Loader) -> Iterator[Batch]:
        for step in range(-(-len(loader.numbers) // loader.batch_size)):
            yield loader.batch_in_order(step).to(self.device)

    def _due(self, every: int) -> bool:
        return self.done % every == 0 or self.done == self.config.steps

    def _stop_if_asked(self) -> None:
        """Raises:
        Stopped: it was asked to; a checkpoint of what was done stands.
        """
        if self._stop.asked:
            if self.done:
                self.save()
            raise Stopped(self.done or None)

    def _fail(self, losses: Losses, norm: float) -> NoReturn:
        """Say which term of the loss is not finite, or else whose gradient."""
        wrong = [f"the {name} loss is {float(loss.detach())}" for name, loss in losses.items() if not loss.isfinite()]
        if not wrong:
            names = [n for n, p in self.learning.items() if p.grad is not None and not p.grad.isfinite().all()]
            whose = names[0] if names else "all weights together"
            wrong = [f"the loss is finite, and the gradient of {whose} is not ({norm})"]
        raise TrainingFailed(
            f"{' and '.join(wrong)} at step {self.done + 1}, and the weights are still those of the step before: go on "
            f"from the last checkpoint with a lower rate, --resume --learning-rate {self.config.learning_rate / 10:g}, "
            "or look for damaged values in the shards"
        )

    def _write_progress(self, loss: float, norm: float, bar: Progress) -> None:
        rate = self._seen / max(time.perf_counter() - self._began, 1e-9)
        self.log.write(
            step=self.done,
            loss=loss,
            learning_rate=self.rate(self.done - 1),
            gradient_norm=norm,
            samples_per_second=round(rate, 2),
        )
        bar.set_postfix_str(f"loss {loss:.4f}, {rate:.1f} samples/s")

    def _bar(self) -> Progress:
        return open_progress(f"stage {self.stage.number}", self.config.steps, "step", self.done)
