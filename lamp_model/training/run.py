"""A run from request to finished folder: settle the config, build the model, train, leave what others read."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from lamp_model.config import DataSource, RunConfig
from lamp_model.data.dataset import TrainingData
from lamp_model.data.embodiments import run_statistics
from lamp_model.data.loader import Loader
from lamp_model.errors import BadRun
from lamp_model.model import MotionModel, PolicyModel, outline
from lamp_model.presets import preset
from lamp_model.storage import run_folder
from lamp_model.storage.checkpoints import steps_in
from lamp_model.training.data_setup import (
    check_actions,
    check_backbone_files,
    check_depth,
    check_room,
    embodiments_in,
    fitted,
    loaders,
)
from lamp_model.training.init_motion import (
    FROM_STAGE_1,
    backbone_source,
    find_published,
    find_run,
    initialise_motion,
    keep_motion,
)
from lamp_model.training.metrics import draw_curves
from lamp_model.training.overrides import apply, check_resumed
from lamp_model.training.request import Request, check
from lamp_model.training.rng import Purpose, stream_seed
from lamp_model.training.stages import MotionStage, PolicyStage, Stage
from lamp_model.training.trainer import Trainer
from schemas.devices import choose_device
from schemas.files import remove_partials


@dataclass(frozen=True)
class Prepared:
    """A request that was found to be possible: nothing was trained yet."""

    config: RunConfig
    folder: Path
    data: TrainingData
    device: torch.device
    threads: int
    finished: bool


def prepare(request: Request) -> Prepared:
    """Settle everything that can be refused before any work.

    Raises:
        BadRun: the output exists and was not asked to go on, goes on differently, or the Motion Expert is missing.
        BadManifest, CorruptShard: the shards are not finished or damaged.
        ValueError: an option makes no sense.
    """
    folder = request.output
    stored = run_folder.read_config(folder) if (folder / run_folder.CONFIG).is_file() else None
    check(request, stored.training.objective if stored else "action")
    device = choose_device(request.device)
    if stored is None and folder.exists() and any(folder.iterdir()):
        raise BadRun(f"{folder} is not empty and is no run of lamp-train: give another --output")
    if stored and not request.resume:
        raise BadRun(
            f"{folder} already holds a run of stage {stored.training.stage}: add --resume to go on with it, "
            "give another --output, or remove the folder"
        )
    if stored and stored.training.stage != request.stage:
        raise BadRun(f"{folder} holds a run of stage {stored.training.stage}, stage {request.stage} was asked for")
    data = request.data or Path(stored.data.path if stored else "shards/libero")
    opened = TrainingData(data)
    check_actions(opened, request.stage)
    config = _resumed(request, stored, opened) if stored else _new(request, opened)
    finished = stored is not None and (folder / run_folder.MODEL).is_file()
    return Prepared(config, folder, opened, device, request.threads, finished)


def train(prepared: Prepared) -> dict[str, float]:
    """Train and leave a finished run.

    Returns:
        The last figures on held-out episodes.

    Raises:
        TrainingFailed, CorruptShard, BadSample, BadCheckpoint, OSError: see ``Trainer.run``.
    """
    folder, config = prepared.folder, prepared.config
    stage = _build(prepared)
    training, validation = _loaders(prepared)
    _begin(prepared, stage)
    trainer = Trainer(stage, config.training, folder, training, validation)
    metrics = trainer.run()
    draw_curves(folder / run_folder.METRICS, folder / run_folder.CURVES, f"LaMP stage {stage.number}, {config.preset}")
    run_folder.finish(folder, stage.model, config.training)
    return metrics


def _begin(prepared: Prepared, stage: Stage) -> None:
    """Write what a run begins with, once everything was built: a start that failed leaves nothing."""
    folder, config = prepared.folder, prepared.config
    folder.mkdir(parents=True, exist_ok=True)
    remove_partials(folder)
    run_folder.write_config(folder, config)
    run_folder.write_statistics(folder, run_statistics(prepared.data, config.data.actions))
    if config.motion_run and isinstance(stage.model, PolicyModel):
        keep_motion(folder, config.motion_run, stage.model)
    else:
        run_folder.save_backbone(folder, stage.model)


def _new(request: Request, data: TrainingData) -> RunConfig:
    needs_motion = request.stage == 2 and request.variants.motion != "none"
    first = find_run(request.motion or Path("runs/stage1")) if needs_motion and not request.motion_weights else None
    name = request.preset or (first and first.preset) or ("paper" if request.motion_weights else "tiny")
    chosen = preset(name)
    training = chosen.training(request.stage).asked(request.options or {})
    if first and name != first.preset:
        raise BadRun(f"{first.where} was trained with the preset {first.preset}, {name} was asked for: they do not fit")
    if needs_motion and request.motion_weights:
        first = find_published(request.motion_weights)
    source = _source(data, request)
    model = fitted(chosen.model, data, source)
    if first:
        if not set(model.cameras) <= set(first.model.cameras):
            raise BadRun(
                f"{first.where} was trained with the images {', '.join(first.model.cameras)}, {data.path} has "
                f"{', '.join(model.cameras)}"
            )
        model = replace(model, **{name: getattr(first.model, name) for name in FROM_STAGE_1})
    model = apply(request.variants, model, first.where if first else None)
    check_depth(data, model, training, request.relative_depth)
    config = RunConfig(name, model, training, source, first.where if first else None)
    _check_outline(config, request.output, data)
    return config


def _check_outline(config: RunConfig, folder: Path, data: TrainingData) -> None:
    """Refuse a model whose parts do not fit each other or the data, before its weights are loaded.

    Raises:
        ValueError: they do not, or there is no such backbone.
    """
    model = run_folder.local_backbone(backbone_source(folder, config.motion_run), config.model)
    check_backbone_files(model)
    if config.training.stage == 1:
        outline(MotionModel, model)
    else:
        check_room(data, outline(PolicyModel, model))


def _resumed(request: Request, stored: RunConfig, data: TrainingData) -> RunConfig:
    """The stored config, once nothing that was asked for contradicts it but rates, which may change on the way."""
    options = request.options or {}
    training = stored.training.with_rates(options, max(steps_in(request.output / run_folder.CHECKPOINTS), default=0))
    asked = {**options, "preset": request.preset, "actions": request.actions, "normalisation": request.normalisation}
    has = {**asdict(training), **asdict(stored.data), "preset": stored.preset}
    different = [
        f"{name.replace('_', '-')} {has[name]} and not {value}"
        for name, value in asked.items()
        if value is not None and has[name] != value
    ]
    if different:
        raise BadRun(
            f"{request.output} was begun with {', '.join(different)}: go on without these options, or begin anew"
        )
    check_resumed(request.variants, stored.model, request.output)
    motion = request.motion_weights or request.motion
    if motion and stored.motion_run and Path(motion).resolve() != Path(stored.motion_run).resolve():
        raise BadRun(f"{request.output} was begun with the Motion Expert of {stored.motion_run}, not {motion}")
    if (data.digest, len(data)) != (stored.data.recipe_digest, stored.data.samples):
        raise BadRun(
            f"{request.output} was begun on other shards than {data.path} holds now: give the same --data, or begin "
            "anew"
        )
    return replace(stored, training=training)


def _source(data: TrainingData, request: Request) -> DataSource:
    normalisation = request.normalisation or "min_max"
    return DataSource(str(data.path), data.name, data.digest, len(data), request.actions, normalisation)


def _build(prepared: Prepared) -> Stage:
    """The stage's model, as it is before the first step, on its device."""
    config, folder = prepared.config, prepared.folder
    torch.manual_seed(stream_seed(config.training.seed, Purpose.WEIGHTS))
    source = run_folder.local_backbone(backbone_source(folder, config.motion_run), config.model)
    if config.training.stage == 1:
        model = MotionModel(source)
        model.place(prepared.device)
        return MotionStage(model)
    policy = PolicyModel(source)
    if config.motion_run:
        initialise_motion(folder, config.motion_run, policy)
    policy.place(prepared.device)
    weight = config.training.motion_weight if config.training.objective == "joint" else 0.0
    return PolicyStage(policy, embodiments_in(prepared.data, config.data), weight)


def _loaders(prepared: Prepared) -> tuple[Loader, Loader | None]:
    config = prepared.config
    return loaders(prepared.data, config.model, config.data, config.training, prepared.threads)
