"""A run from request to finished folder: settle the config, build the model, train, leave what others read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamp_model import run_folder
from lamp_model.checkpoints import write_tensors
from lamp_model.devices import choose_device
from lamp_model.loader import Loader, SampleConfig, split_episodes
from lamp_model.model import ModelConfig, MotionModel, PolicyModel
from lamp_model.normalisation import range_of
from lamp_model.presets import preset
from lamp_model.run_folder import BadRun, DataSource, RunConfig
from lamp_model.training.loop import Trainer
from lamp_model.training.metrics import draw_curves
from lamp_model.training.randomness import Purpose, stream_seed
from lamp_model.training.stages import MotionStage, PolicyStage, Stage
from lamp_model.training.variants import Variants, apply, check, check_resumed
from schemas.files import remove_partials
from schemas.shard_set import ShardSet


@dataclass(frozen=True)
class Request:
    """What a person asks for; None means: as in the run that goes on, else the preset's.

    Attributes:
        options: fields of ``TrainingConfig`` that were given.
        chunk: actions predicted at once, if given.
        variants: deviations from the paper's model; see ``lamp_model.training.variants``.
        motion: stage 2: a finished run of stage 1.
        threads: that decode samples.
    """

    stage: int
    data: Path | None
    output: Path
    motion: Path | None = None
    preset: str | None = None
    options: Mapping[str, Any] | None = None
    chunk: int | None = None
    variants: Variants = field(default_factory=Variants)
    resume: bool = False
    device: str = "auto"
    threads: int = 2


@dataclass(frozen=True)
class Prepared:
    """A request that was found to be possible: nothing was trained yet."""

    config: RunConfig
    folder: Path
    shards: ShardSet
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
    check(request.stage, request.variants, request.options or {})
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
    shards = ShardSet(data)
    config = _resumed(request, stored, shards) if stored else _new(request, data, shards)
    finished = stored is not None and (folder / run_folder.MODEL).is_file()
    return Prepared(config, folder, shards, device, request.threads, finished)


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
    run_folder.write_statistics(folder, prepared.shards.statistics())
    stage = _build(prepared)
    training, validation = _loaders(prepared)
    trainer = Trainer(stage, config.training, folder, training, validation)
    verdict = trainer.run()
    draw_curves(folder / run_folder.METRICS, folder / run_folder.CURVES, f"LaMP stage {stage.number}, {config.preset}")
    run_folder.finish(folder, stage.model, config.training)
    return verdict


def _new(request: Request, data: Path, shards: ShardSet) -> RunConfig:
    motion = request.motion or Path("runs/stage1")
    first = _motion_run(motion) if request.stage == 2 and request.variants.motion != "none" else None
    name = request.preset or (first.preset if first else "tiny")
    if first and name != first.preset:
        raise BadRun(f"{motion} was trained with the preset {first.preset}, {name} was asked for: they do not fit")
    chosen = preset(name)
    model = _fitted(chosen.model, shards, request.chunk)
    if first:
        same = ("backbone", "backbone_options", "motion", "cameras", "padding")
        if first.model.cameras != model.cameras:
            raise BadRun(
                f"{motion} was trained with the images {', '.join(first.model.cameras)}, {data} has {', '.join(model.cameras)}"
            )
        model = replace(model, **{name: getattr(first.model, name) for name in same})
    model = apply(request.variants, model, str(motion) if first else None)
    training = replace(chosen.training(request.stage), **(request.options or {}))
    return RunConfig(name, model, training, _source(data, shards), str(motion) if first else None)


def _motion_run(folder: Path) -> RunConfig:
    if not folder.is_dir():
        raise BadRun(
            f"stage 2 needs the Motion Expert of stage 1, and there is no run at {folder.resolve()}: "
            "train it first with lamp-train --stage 1, or give --motion (a folder, or none)"
        )
    return run_folder.finished_run(folder, 1)


def _resumed(request: Request, stored: RunConfig, shards: ShardSet) -> RunConfig:
    """The stored config, once nothing that was asked for contradicts it."""
    asked = {**(request.options or {}), "preset": request.preset, "chunk": request.chunk}
    has = {**asdict(stored.training), "preset": stored.preset, "chunk": stored.model.action.chunk}
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
    if request.motion and stored.motion_run and request.motion.resolve() != Path(stored.motion_run).resolve():
        raise BadRun(f"{request.output} was begun with the Motion Expert of {stored.motion_run}, not {request.motion}")
    found = _source(Path(stored.data.path), shards)
    if (found.recipe_digest, found.samples) != (stored.data.recipe_digest, stored.data.samples):
        raise BadRun(
            f"{request.output} was begun on other shards than {shards.folder} holds now: give the same --data, or begin anew"
        )
    return stored


def _source(data: Path, shards: ShardSet) -> DataSource:
    manifest = shards.manifest
    return DataSource(str(data), str(manifest.dataset.get("name", "")), manifest.recipe_digest, len(shards))


def _fitted(model: ModelConfig, shards: ShardSet, chunk: int | None) -> ModelConfig:
    """The model with the sizes that the data decide."""
    if not len(shards):
        raise BadRun(f"{shards.folder} has no samples: look into its episodes.jsonl for the reasons")
    cameras = tuple(role for role in ("image", "wrist") if role in shards.read(0).images)
    statistics = shards.statistics()
    action = replace(
        model.action,
        action_size=range_of(statistics, "action").size,
        state_size=range_of(statistics, "state").size,
        chunk=chunk or model.action.chunk,
    )
    return replace(model, action=action, cameras=cameras)


def _build(prepared: Prepared) -> Stage:
    """The stage's model, as it is before the first step, on its device."""
    config, folder = prepared.config, prepared.folder
    torch.manual_seed(stream_seed(config.training.seed, Purpose.WEIGHTS))
    if config.motion_run:
        run_folder.copy_backbone(Path(config.motion_run), folder)
    source = run_folder.local_backbone(folder, config.model)
    if config.training.stage == 1:
        model = MotionModel(source)
        run_folder.save_backbone(folder, model)
        model.place(prepared.device)
        return MotionStage(model)
    policy = PolicyModel(source)
    if config.motion_run:
        _keep_motion(folder, Path(config.motion_run), policy)
    else:
        run_folder.save_backbone(folder, policy)
    policy.place(prepared.device)
    statistics = run_folder.read_statistics(folder)
    ranges = range_of(statistics, "state"), range_of(statistics, "action")
    weight = config.training.motion_weight if config.training.objective == "joint" else 0.0
    return PolicyStage(policy, *ranges, statistics["action"]["mean"], weight)


def _keep_motion(folder: Path, motion_run: Path, policy: PolicyModel) -> None:
    """Load the Motion Expert and keep it with the run, so that the run stands alone."""
    kept = folder / run_folder.MOTION
    if not kept.is_file():
        run_folder.load_motion(motion_run, policy)
        write_tensors(kept, run_folder.part_weights(policy, "motion_head"))
    run_folder.load_kept_motion(folder, policy)


def _loaders(prepared: Prepared) -> tuple[Loader, Loader | None]:
    config, shards = prepared.config, prepared.shards
    training, motion = config.training, config.model.motion
    taken = SampleConfig(config.model.cameras, config.model.action.chunk, motion.grid**2, motion.horizon)
    numbers, held_out = split_episodes(shards, training.val_fraction)
    episodes = shards.index["episode"]
    print(
        f"data: {len(numbers)} samples of {len(set(episodes[numbers].tolist()))} episodes to train on, "
        f"{len(held_out)} of {len(set(episodes[held_out].tolist()))} held out"
    )
    train = Loader(shards, numbers, taken, training.batch_size, training.seed, prepared.threads)
    if not len(held_out):
        print("nothing is held out (one episode, or --val-fraction 0): there will be no validation")
        return train, None
    spread = held_out[np.unique(np.linspace(0, len(held_out) - 1, training.val_samples).round().astype(int))]
    batch = min(training.batch_size, 32)
    return train, Loader(shards, spread, taken, batch, training.seed, prepared.threads)
