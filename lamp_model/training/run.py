"""A run from request to finished folder: settle the config, build the model, train, leave what others read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lamp_model import run_folder
from lamp_model.action_expert import TooLong
from lamp_model.data import TrainingData
from lamp_model.embodiments import run_statistics
from lamp_model.loader import Loader
from lamp_model.model import MotionModel, PolicyModel
from lamp_model.normalisation import NORMALISATIONS
from lamp_model.presets import preset
from lamp_model.run_folder import BadRun, DataSource, RunConfig
from lamp_model.training.inputs import check_actions, check_depth, embodiments_in, fitted, loaders
from lamp_model.training.loop import Trainer
from lamp_model.training.metrics import draw_curves
from lamp_model.training.motion_source import (
    FROM_STAGE_1,
    MotionSource,
    copy_backbone,
    find_published,
    find_run,
    keep_motion,
)
from lamp_model.training.randomness import Purpose, stream_seed
from lamp_model.training.stages import MotionStage, PolicyStage, Stage
from lamp_model.training.variants import Variants, apply, check, check_resumed, check_widths
from schemas.devices import choose_device
from schemas.files import remove_partials


@dataclass(frozen=True)
class Request:
    """What a person asks for; None means: as in the run that goes on, else the preset's.

    Attributes:
        options: fields of ``TrainingConfig`` that were given.
        chunk: actions predicted at once, if given.
        variants: deviations from the paper's model; see ``lamp_model.training.variants``.
        motion: stage 2: a finished run of stage 1.
        motion_weights: stage 2: published motion weights in its place.
        actions: form of the actions that stage 2 learns; see ``lamp_model.embodiments.run_statistics``.
        normalisation: of states and actions.
        threads: that decode samples.
        relative_depth: motion may be learned from depth without a scale.
    """

    stage: int
    data: Path | None
    output: Path
    motion: Path | None = None
    motion_weights: str | None = None
    preset: str | None = None
    options: Mapping[str, Any] | None = None
    chunk: int | None = None
    variants: Variants = field(default_factory=Variants)
    resume: bool = False
    device: str = "auto"
    threads: int = 2
    actions: str | None = None
    normalisation: str | None = None
    relative_depth: bool = False


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
    check(request.stage, request.variants, request.options or {}, request.motion, request.motion_weights)
    device = choose_device(request.device)
    folder = request.output
    stored = run_folder.read_config(folder) if (folder / run_folder.CONFIG).is_file() else None
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
    folder.mkdir(parents=True, exist_ok=True)
    remove_partials(folder)
    run_folder.write_config(folder, config)
    run_folder.write_statistics(folder, run_statistics(prepared.data, config.data.actions))
    stage = _build(prepared)
    training, validation = _loaders(prepared)
    trainer = Trainer(stage, config.training, folder, training, validation)
    verdict = trainer.run()
    draw_curves(folder / run_folder.METRICS, folder / run_folder.CURVES, f"LaMP stage {stage.number}, {config.preset}")
    run_folder.finish(folder, stage.model, config.training)
    return verdict


def _new(request: Request, data: TrainingData) -> RunConfig:
    first = _motion_source(request)
    name = request.preset or (first.preset or "paper" if first else "tiny")
    if first and first.preset and name != first.preset:
        raise BadRun(f"{first.where} was trained with the preset {first.preset}, {name} was asked for: they do not fit")
    chosen = preset(name)
    source = _source(data, request)
    model = fitted(chosen.model, data, source, request.chunk)
    if first:
        if not set(model.cameras) <= set(first.model.cameras):
            raise BadRun(
                f"{first.where} was trained with the images {', '.join(first.model.cameras)}, {data.path} has {', '.join(model.cameras)}"
            )
        model = replace(model, **{name: getattr(first.model, name) for name in FROM_STAGE_1})
    model = apply(request.variants, model, first.where if first else None)
    check_widths(model, request.stage)
    training = replace(chosen.training(request.stage), **(request.options or {}))
    check_depth(data, model, training, request.relative_depth)
    return RunConfig(name, model, training, source, first.where if first else None)


def _check_room(policy: PolicyModel, data: TrainingData) -> None:
    """Refuse a backbone whose features do not fit the action head, by the first sample of each build.

    Raises:
        TooLong: they do not.
    """
    sizes, cameras = policy.config.action, len(policy.config.cameras)
    texts = [text for triplet in data.first_samples() for text in triplet.instructions] or [""]
    longest = max(policy.qwen_vl_interface.length(text, cameras) for text in texts)
    if longest + sizes.chunk > sizes.positions:
        raise TooLong(
            f"{longest} tokens of features and {sizes.chunk} actions exceed the {sizes.positions} positions of the action head: "
            f"give --positions {longest + sizes.chunk + 64} or more"
        )


def _motion_source(request: Request) -> MotionSource | None:
    if request.stage == 1 or request.variants.motion == "none":
        return None
    if request.motion_weights:
        return find_published(request.motion_weights)
    return find_run(request.motion or Path("runs/stage1"))


def _resumed(request: Request, stored: RunConfig, data: TrainingData) -> RunConfig:
    """The stored config, once nothing that was asked for contradicts it."""
    asked = {**(request.options or {}), "preset": request.preset, "chunk": request.chunk}
    asked |= {"actions": request.actions, "normalisation": request.normalisation}
    has = {**asdict(stored.training), "preset": stored.preset, "chunk": stored.model.action.chunk}
    has |= {"actions": stored.data.actions, "normalisation": stored.data.normalisation}
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
            f"{request.output} was begun on other shards than {data.path} holds now: give the same --data, or begin anew"
        )
    return stored


def _source(data: TrainingData, request: Request) -> DataSource:
    normalisation = request.normalisation or "min_max"
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"normalisation must be {' or '.join(NORMALISATIONS)}, found {normalisation!r}")
    return DataSource(str(data.path), data.name, data.digest, len(data), request.actions, normalisation)


def _build(prepared: Prepared) -> Stage:
    """The stage's model, as it is before the first step, on its device."""
    config, folder = prepared.config, prepared.folder
    torch.manual_seed(stream_seed(config.training.seed, Purpose.WEIGHTS))
    if config.motion_run:
        copy_backbone(config.motion_run, folder)
    source = run_folder.local_backbone(folder, config.model)
    if config.training.stage == 1:
        model = MotionModel(source)
        run_folder.save_backbone(folder, model)
        model.place(prepared.device)
        return MotionStage(model)
    policy = PolicyModel(source)
    if config.motion_run:
        keep_motion(folder, config.motion_run, policy)
    else:
        run_folder.save_backbone(folder, policy)
    _check_room(policy, prepared.data)
    policy.place(prepared.device)
    weight = config.training.motion_weight if config.training.objective == "joint" else 0.0
    return PolicyStage(policy, embodiments_in(prepared.data, config.data), weight)


def _loaders(prepared: Prepared) -> tuple[Loader, Loader | None]:
    config = prepared.config
    return loaders(prepared.data, config.model, config.data, config.training, prepared.threads)
