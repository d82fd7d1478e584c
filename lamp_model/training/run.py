"""A run from its preparation to the finished folder: build the model, train, write the results."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lamp_model.data.embodiments import embodiments_of, run_statistics
from lamp_model.data.loader import Loader
from lamp_model.data.statistics import training_statistics
from lamp_model.errors import BadRun
from lamp_model.model import MotionModel, PolicyModel
from lamp_model.networks.motion_loss import LossWeights
from lamp_model.storage import run_folder
from lamp_model.training.data_setup import loaders
from lamp_model.training.distributed.agreement import check_same
from lamp_model.training.dry_run import Timed, prompt_tokens, timed_steps
from lamp_model.training.encoding import CachedEncoder, cached
from lamp_model.training.flops import device_of, sample_flops
from lamp_model.training.init_motion import backbone_source, initialise_motion, keep_motion
from lamp_model.training.metrics import draw_curves
from lamp_model.training.preparation import Prepared as Prepared
from lamp_model.training.preparation import prepare as prepare
from lamp_model.training.rng import Purpose, stream_seed
from lamp_model.training.stages import MotionStage, PolicyStage, Stage
from lamp_model.training.stopping import StopRequest
from lamp_model.training.survey import look_at_data
from lamp_model.training.trainer import Trainer
from lamp_model.training.watch import Watch
from schemas.files import remove_partials
from schemas.locks import held


def train(prepared: Prepared, stop: StopRequest | None = None) -> dict[str, float]:
    """Train and write a finished run.

    Args:
        stop: checked after every step.

    Returns:
        The last metrics on held-out episodes.

    Raises:
        BadRun: another process trains in the folder, or has begun a run there; or the ranks differ in what they train.
        Stopped: it was asked to; see ``Trainer.run``.
        TrainingFailed, CorruptShard, BadSample, BadCheckpoint, OSError: see ``Trainer.run``.
        RankFailed, RankLost: another rank cannot go on.
    """
    folder, config, ranks = prepared.folder, prepared.config, prepared.ranks
    how = {"--micro-batch": prepared.micro_batch, "--cache-gb": prepared.cache_gb}
    check_same(config, prepared.stored, {**how, "the kind of device": prepared.device.type}, ranks)
    with _entered(prepared):
        statistics = _statistics(prepared)
        stage = ranks.agreed(lambda: _build(prepared, statistics), quick=False)
        training, validation = _loaders(prepared)
        ranks.agreed(lambda: _begin(prepared, stage, statistics) if ranks.first else None, quick=False)
        with _encoder(prepared, stage, training):
            _look_at_data(stage, training, validation, prepared)
            watch = _watch(prepared, stage)
            trainer = Trainer(stage, config.training, folder, training, validation, ranks, prepared.micro_batch, watch)
            metrics = trainer.run(stop)
        with trainer.averaged() as any_averages:
            if any_averages:
                averages = trainer.weights()
                ranks.agreed(lambda: run_folder.keep_averages(folder, averages) if ranks.first else None, quick=False)
        weights = trainer.weights()
        ranks.agreed(lambda: _finish(prepared, weights) if ranks.first else None, quick=False)
    return metrics


def _look_at_data(stage: Stage, training: Loader, validation: Loader | None, prepared: Prepared) -> None:
    """Rank 0 computes the statistics and the baselines; the others take them over."""
    ranks = prepared.ranks
    looked = partial(look_at_data, stage, training, validation, prepared.folder)
    ranks.agreed(lambda: looked() if ranks.first else None, quick=False)
    if isinstance(stage, MotionStage) and ranks.world > 1:
        stage.baselines = ranks.from_first(stage.baselines)
        ranks.copy_buffers_from_first(stage.model.motion_head)
    if isinstance(stage, PolicyStage) and ranks.world > 1 and stage.model.config.feature_norm != "none":
        ranks.copy_buffers_from_first(stage.model.feature_norm)


def _watch(prepared: Prepared, stage: Stage) -> Watch:
    """How the run is shown, with what it takes to compute the model FLOPs utilisation."""
    watch = replace(prepared.watch, config=asdict(prepared.config))
    kind = device_of(torch.cuda.get_device_name(prepared.device)) if prepared.device.type == "cuda" else None
    if kind is None:
        return watch
    flops = sample_flops(stage.model, prepared.config.training, prompt_tokens(stage.model, prepared.data))
    return replace(watch, flops=float(sum(flops.values())), peak=kind.peak)


def try_steps(prepared: Prepared) -> Timed:
    """Train a few steps of a run on its device without writing anything; see ``timed_steps``. States and actions are
    normalised with the statistics of all data, so that these need not be read first."""
    config = prepared.config
    statistics = run_statistics(prepared.data, config.data.actions) if config.training.stage == 2 else None
    stage = _build(prepared, statistics)
    return timed_steps(stage, _loaders(prepared)[0], config.training, prepared.micro_batch)


def _finish(prepared: Prepared, weights: dict[str, torch.Tensor]) -> None:
    folder, config = prepared.folder, prepared.config
    title = f"LaMP stage {config.training.stage}, {config.preset}"
    draw_curves(folder / run_folder.METRICS, folder / run_folder.CURVES, title)
    run_folder.finish(folder, weights)


@contextmanager
def _entered(prepared: Prepared) -> Iterator[None]:
    """The run's folder, locked by rank 0 for all ranks.

    Raises:
        BadRun: another process trains there, or has begun a run there.
    """
    folder = prepared.folder
    with ExitStack() as stack:

        def enter() -> None:
            if prepared.ranks.first:
                stack.enter_context(_alone_in(folder))
                if prepared.stored is None and (folder / run_folder.CONFIG).is_file():
                    raise BadRun(f"{folder} holds a run that was begun a moment ago: give another --output")

        prepared.ranks.agreed(enter)
        yield


@contextmanager
def _encoder(prepared: Prepared, stage: Stage, loader: Loader) -> Iterator[None]:
    """Let a stage take features from a cache on disk, if the prepared run has one. The first rank of a machine fills
    it, and the others read it."""
    room, ranks = prepared.cache_gb, prepared.ranks
    if room is None:
        yield
        return
    fills = ranks.local == 0
    with ExitStack() as stack:

        def opened(fill: bool) -> CachedEncoder:
            return stack.enter_context(cached(stage.model, prepared.data, loader, room, fill))

        encoder = ranks.agreed(lambda: opened(fill=True) if fills else None, quick=False)
        stage.encode = ranks.agreed(lambda: encoder or opened(fill=False), quick=False)
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
    chunk, ranks = config.model.action.chunk, prepared.ranks

    def computed() -> dict[str, Any] | None:
        if not ranks.first:
            return None
        return training_statistics(prepared.data, prepared.split[0], config.data.actions, chunk, prepared.threads)

    return ranks.from_first(ranks.agreed(computed, quick=False))


def _begin(prepared: Prepared, stage: Stage, statistics: dict[str, Any] | None) -> None:
    """Write the initial files of a run, after everything is built, so that a failed start leaves nothing."""
    folder, config = prepared.folder, prepared.config
    remove_partials(folder)
    if prepared.stored is not None and (folder / run_folder.MODEL).is_file():
        run_folder.reopen(folder, prepared.stored.training.steps)
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
        model.place(prepared.device, config.training)
        return MotionStage(model, weights)
    policy = PolicyModel(source, stream_seed(config.training.seed, Purpose.HEAD_WEIGHTS))
    if config.motion_run:
        initialise_motion(folder, config.motion_run, policy)
    policy.place(prepared.device, config.training)
    embodiments = embodiments_of(statistics, prepared.data.embodied[0].name, config.data.normalisation)
    weight = config.training.motion_weight if config.training.objective == "joint" else 0.0
    return PolicyStage(policy, embodiments, weight, weights)


def _loaders(prepared: Prepared) -> tuple[Loader, Loader | None]:
    config = prepared.config
    split, ranks = prepared.split, prepared.ranks
    return loaders(prepared.data, split, config.model, config.data, config.training, prepared.threads, ranks)
