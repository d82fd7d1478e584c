"""A run from request to finished folder: make the config, build the model, train, write the results."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamp_model.config import RunConfig
from lamp_model.data.dataset import TrainingData
from lamp_model.data.embodiments import embodiments_of
from lamp_model.data.loader import Loader
from lamp_model.data.split import split_members
from lamp_model.data.statistics import training_statistics
from lamp_model.errors import BadRun
from lamp_model.model import MotionModel, PolicyModel
from lamp_model.networks.motion_loss import LossWeights
from lamp_model.storage import run_folder
from lamp_model.training.checks import check_actions
from lamp_model.training.data_setup import loaders
from lamp_model.training.encoding import cached, uncacheable
from lamp_model.training.init_motion import backbone_source, initialise_motion, keep_motion
from lamp_model.training.metrics import draw_curves
from lamp_model.training.request import Request, check
from lamp_model.training.rng import Purpose, stream_seed
from lamp_model.training.run_config import new_config, resumed_config
from lamp_model.training.stages import MotionStage, PolicyStage, Stage
from lamp_model.training.stopping import StopRequest
from lamp_model.training.survey import look_at_data
from lamp_model.training.trainer import Trainer
from schemas.devices import choose_device
from schemas.files import remove_partials
from schemas.locations import locate
from schemas.locks import held

SHARDS = Path("shards/libero")
"""Default folder of shards."""


@dataclass(frozen=True)
class Prepared:
    """A checked request, before training.

    Attributes:
        cache_gb: GiB that features may take on disk; None: they are not cached.
    """

    config: RunConfig
    folder: Path
    data: TrainingData
    device: torch.device
    threads: int
    resumed: bool
    finished: bool
    cache_gb: float | None = None

    @cached_property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the samples to train on, and of those held out."""
        return split_members(self.data, self.config.training.val_fraction)


def prepare(request: Request) -> Prepared:
    """Run all checks that are possible before training.

    Raises:
        BadRun: the output exists and resuming was not requested, it contradicts the request, or the Motion Expert is
            missing.
        BadManifest, CorruptShard: the shards are not finished or damaged.
        ValueError: an option is invalid.
    """
    _check_alone()
    folder = request.output
    stored = run_folder.read_config(folder) if (folder / run_folder.CONFIG).is_file() else None
    check(request, stored.training.objective if stored else "action")
    device = choose_device(request.device)
    _check_output(request, stored)
    data = TrainingData(_data_of(request, stored))
    check_actions(data, request.stage)
    config = resumed_config(request, stored, data) if stored else new_config(request, data)
    finished = stored is not None and (folder / run_folder.MODEL).is_file()
    room = _room_for_features(request, config, device)
    return Prepared(config, folder, data, device, request.threads, stored is not None, finished, room)


def _room_for_features(request: Request, config: RunConfig, device: torch.device) -> float | None:
    """GiB for features on disk; None where they are not cached: on a GPU the backbone is fast, and a sample that is
    used only once needs no cache."""
    reason = uncacheable(config.model)
    if request.cache_features == "on" and reason:
        raise ValueError(f"--cache-features on is not possible here: {reason}; leave it out")
    visits = config.training.steps * config.training.batch_size / max(config.data.samples, 1)
    pays = device.type == "cpu" and visits >= 2
    wanted = request.cache_features == "on" or (request.cache_features == "auto" and pays)
    return request.cache_gb if wanted and not reason else None


def _check_alone() -> None:
    world = os.environ.get("WORLD_SIZE", "1")
    if world not in ("", "1"):
        raise ValueError(
            f"WORLD_SIZE is {world}, as torchrun sets it, and each of these processes would train the same run: "
            "lamp-train works in one process on one device; start it without torchrun"
        )


def _check_output(request: Request, stored: RunConfig | None) -> None:
    folder = request.output
    if stored is None:
        if folder.exists() and any(path.name != run_folder.LOCK for path in folder.iterdir()):
            raise BadRun(f"{folder} is not empty and is no run of lamp-train: give another --output")
        return
    if not request.resume:
        raise BadRun(
            f"{folder} already holds a run of stage {stored.training.stage}: add --resume to go on with it, "
            "give another --output, or remove the folder"
        )
    if stored.training.stage != request.stage:
        raise BadRun(f"{folder} holds a run of stage {stored.training.stage}, stage {request.stage} was asked for")


def _data_of(request: Request, stored: RunConfig | None) -> Path:
    if request.data is not None or stored is None:
        return request.data or SHARDS
    path = locate(stored.data.path)
    if not path.exists():
        raise BadRun(
            f"{request.output} was begun on the shards in {path}, which are not there any more: where they were moved, "
            "say with --data where they are now"
        )
    return path


def train(prepared: Prepared, stop: StopRequest | None = None) -> dict[str, float]:
    """Train and write a finished run.

    Args:
        stop: checked after every step.

    Returns:
        The last metrics on held-out episodes.

    Raises:
        BadRun: another process trains in the folder, or has begun a run there.
        Stopped: it was asked to; see ``Trainer.run``.
        TrainingFailed, CorruptShard, BadSample, BadCheckpoint, OSError: see ``Trainer.run``.
    """
    folder, config = prepared.folder, prepared.config
    with _alone_in(folder):
        if not prepared.resumed and (folder / run_folder.CONFIG).is_file():
            raise BadRun(f"{folder} holds a run that was begun a moment ago: give another --output")
        statistics = _statistics(prepared)
        stage = _build(prepared, statistics)
        training, validation = _loaders(prepared)
        _begin(prepared, stage, statistics)
        with _encoder(prepared, stage, training):
            look_at_data(stage, training, validation, folder)
            trainer = Trainer(stage, config.training, folder, training, validation)
            metrics = trainer.run(stop)
        title = f"LaMP stage {stage.number}, {config.preset}"
        draw_curves(folder / run_folder.METRICS, folder / run_folder.CURVES, title)
        run_folder.finish(folder, stage.model, config.training)
    return metrics


@contextmanager
def _encoder(prepared: Prepared, stage: Stage, loader: Loader) -> Iterator[None]:
    """Let a stage take features from a cache on disk, if the prepared run has one."""
    if prepared.cache_gb is None:
        yield
        return
    with cached(stage.model, prepared.data, loader, prepared.cache_gb) as encoder:
        if encoder is not None:
            stage.encode = encoder
        yield


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lock a run's folder against other processes. A failed start leaves neither folder nor lock.

    Raises:
        BadRun: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / run_folder.LOCK
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock))
        except BlockingIOError:
            raise BadRun(f"another lamp-train is training in {folder}: wait for it or give another --output") from None
        try:
            yield
        finally:
            if not (folder / run_folder.CONFIG).is_file():
                lock.unlink(missing_ok=True)
                with suppress(OSError):  # the folder is not empty
                    folder.rmdir()


def _statistics(prepared: Prepared) -> dict[str, Any] | None:
    """Statistics that normalise states and actions; a resumed run keeps its own. None in stage 1."""
    config = prepared.config
    if config.training.stage == 1:
        return None
    if (prepared.folder / run_folder.STATISTICS).is_file():
        return run_folder.read_statistics(prepared.folder)
    chunk = config.model.action.chunk
    return training_statistics(prepared.data, prepared.split[0], config.data.actions, chunk, prepared.threads)


def _begin(prepared: Prepared, stage: Stage, statistics: dict[str, Any] | None) -> None:
    """Write the initial files of a run, after everything is built, so that a failed start leaves nothing."""
    folder, config = prepared.folder, prepared.config
    remove_partials(folder)
    run_folder.write_config(folder, config)
    if statistics is not None and not (folder / run_folder.STATISTICS).is_file():
        run_folder.write_statistics(folder, statistics)
    if config.motion_run and isinstance(stage.model, PolicyModel):
        keep_motion(folder, config.motion_run, stage.model)
    else:
        run_folder.save_backbone(folder, stage.model)


def _build(prepared: Prepared, statistics: dict[str, Any] | None) -> Stage:
    """Build the stage with its initial model on the device."""
    config, folder = prepared.config, prepared.folder
    torch.manual_seed(stream_seed(config.training.seed, Purpose.WEIGHTS))
    source = run_folder.local_backbone(backbone_source(folder, config.motion_run), config.model)
    weights = LossWeights(config.training.path_weight, config.training.moving_weight)
    if statistics is None:
        model = MotionModel(source)
        model.place(prepared.device)
        return MotionStage(model, weights)
    policy = PolicyModel(source)
    if config.motion_run:
        initialise_motion(folder, config.motion_run, policy)
    policy.place(prepared.device)
    embodiments = embodiments_of(statistics, prepared.data.embodied[0].name, config.data.normalisation)
    weight = config.training.motion_weight if config.training.objective == "joint" else 0.0
    return PolicyStage(policy, embodiments, weight, weights)


def _loaders(prepared: Prepared) -> tuple[Loader, Loader | None]:
    config = prepared.config
    return loaders(prepared.data, prepared.split, config.model, config.data, config.training, prepared.threads)
