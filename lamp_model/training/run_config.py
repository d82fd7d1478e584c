"""The config of a run: a new one from a preset, the request, the data and the Motion Expert of stage 1; or the stored
one of a resumed run, if the request does not contradict it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lamp_model.config import DataSource, RunConfig
from lamp_model.data.dataset import TrainingData
from lamp_model.errors import BadRun
from lamp_model.model import MotionModel, PolicyModel, outline
from lamp_model.model_config import LORA_RANK, ModelConfig
from lamp_model.options import contradictions, with_options
from lamp_model.presets import preset
from lamp_model.storage import run_folder
from lamp_model.storage.checkpoints import steps_in
from lamp_model.training.checks import check_backbone_files, check_depth, check_flow, check_room
from lamp_model.training.data_setup import fitted
from lamp_model.training.init_motion import (
    FROM_STAGE_1,
    MotionSource,
    backbone_source,
    find_published,
    find_run,
)
from lamp_model.training.request import OPTIONS, Request
from schemas.plugins import PluginChoice


def new_config(request: Request, data: TrainingData) -> RunConfig:
    """The config of a new run, after checking that the model can be built.

    Raises:
        BadRun: the Motion Expert is missing, or it, the data and the request do not fit each other.
        ValueError: an option is invalid, or the model's modules do not fit each other.
    """
    motion = _motion_source(request)
    config = _begun(request, data, motion)
    options = _with_adapters(request.options)
    if motion is not None:
        options = _without_what_stage_1_decided(config, options, motion)
    config = _asked(config, options)
    config = replace(config, model=_with_prior(config.model, request.prior, motion))
    check_flow(data, config)
    config = replace(config, model=fitted(config, data, request.options, motion))
    check_depth(data, config, request.relative_depth)
    _check_outline(config, request.output, data)
    return config


def _with_adapters(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with what --lora-rank and --train-backbone say of each other.

    Raises:
        ValueError: they contradict each other, or an option is for a backbone that learns and it does not.
    """
    made = dict(options)
    rank, trained = made.get("lora_rank"), made.get("train_backbone")
    if rank and trained in ("none", "full"):
        raise ValueError(
            f"--lora-rank {rank} trains adapters and --train-backbone {trained} does not: leave one of them out, or "
            "give --train-backbone lora"
        )
    if trained == "lora" and rank == 0:
        raise ValueError("--train-backbone lora needs adapters, and --lora-rank is 0: give 1 or more, such as 16")
    if rank or trained == "lora":
        return {**made, "train_backbone": "lora", "lora_rank": rank or LORA_RANK}
    if "lora_modules" in made:
        raise ValueError("--lora-modules is for adapters: add --train-backbone lora")
    if "backbone_rate" in made and trained != "full":
        raise ValueError("--backbone-rate is for a backbone that learns: add --train-backbone lora or full")
    return made


def _motion_source(request: Request) -> MotionSource | None:
    if request.stage == 1 or request.prior == "none":
        return None
    if request.motion_weights is not None:
        return find_published(request.motion_weights)
    return find_run(request.motion or Path("runs/stage1"))


def _begun(request: Request, data: TrainingData, motion: MotionSource | None) -> RunConfig:
    """The preset's config for these data, with the settings that stage 2 takes over from stage 1."""
    of_motion = motion.preset if motion else None
    name = request.preset or of_motion or ("paper" if motion else "tiny")
    if of_motion is not None and motion is not None and name != of_motion:
        raise BadRun(f"{motion.where} was trained with the preset {of_motion}, {name} was asked for: they do not fit")
    chosen = preset(name)
    model = chosen.model
    if motion is not None:
        model = replace(model, **{field: getattr(motion.model, field) for field in FROM_STAGE_1})
        if motion.authors:
            model = replace(
                model,
                image_orientation=_authors_orientation(request, data),
                backbone_options={**model.backbone_options, **_authors_features(request, model)},
            )
    where = motion.where if motion else None
    return RunConfig(name, model, chosen.training(request.stage), source_of(data), where)


def _authors_orientation(request: Request, data: TrainingData) -> Literal["upright", "mirrored", "rotated-180"]:
    """The image orientation for the authors' motion weights on these data: as requested, else mirrored for LIBERO.

    Raises:
        BadRun: the data mix LIBERO, which the authors mirrored, with other datasets, which they did not.
    """
    asked = request.options.get("image_orientation")
    if asked is not None:
        return asked
    libero = {member.shards.manifest.dataset.get("name") == "libero" for member in data.members}
    if len(libero) > 1:
        raise BadRun(
            f"{data.path} holds LIBERO and other datasets, and the authors' weights saw LIBERO's images "
            "mirrored: say with --image-orientation how they are to see all of these"
        )
    return "mirrored" if libero == {True} else "upright"


def _authors_features(request: Request, model: ModelConfig) -> dict[str, str]:
    """The requested ``features`` option of the backbone, which the authors' weights do not determine."""
    asked = PluginChoice.parse(request.options.get("backbone") or model.backbone)
    chosen = asked.options.get("features")
    return {} if chosen is None or asked.name != model.backbone else {"features": chosen}


def source_of(data: TrainingData) -> DataSource:
    """The record of the shards in a run's config."""
    return DataSource(str(data.path), data.name, data.digest, data.manifests, len(data))


def _without_what_stage_1_decided(config: RunConfig, options: dict, motion: MotionSource) -> dict:
    """The options without those of the Motion Expert, which must agree with it."""
    decided = {name: value for name, value in options.items() if OPTIONS[name].option.of_motion}
    for place, has, value in contradictions(config, decided):
        raise BadRun(
            f"{motion.where} was trained with the {place.name} {has}, {value} was asked for: a Motion Expert knows one "
            f"{place.name} only; train stage 1 again, or give another run as --motion"
        )
    return {name: value for name, value in options.items() if name not in decided}


def _asked(config: RunConfig, options: dict) -> RunConfig:
    training = {name: value for name, value in options.items() if OPTIONS[name].path[0] == "training"}
    others = {name: value for name, value in options.items() if name not in training}
    return with_options(replace(config, training=config.training.asked(training)), others)


def _with_prior(model: ModelConfig, prior: Literal["none", "2d", "3d"] | None, motion: MotionSource | None):
    if prior is None:
        return model
    if prior == "none":
        return replace(model, guided=False)
    if motion is not None and model.motion.depth != (prior == "3d"):
        raise BadRun(
            f"{motion.where} was trained with --motion {_prior_of(model)}, {prior} was asked for: train stage 1 again, "
            "or give another run as --motion"
        )
    return replace(model, motion=replace(model.motion, depth=prior == "3d"))


def _prior_of(model: ModelConfig) -> str:
    return "none" if not model.guided else "3d" if model.motion.depth else "2d"


def _check_outline(config: RunConfig, folder: Path, data: TrainingData) -> None:
    """Refuse a model whose modules do not fit each other or the data, before its weights are loaded.

    Raises:
        ValueError: they do not, or there is no such backbone.
    """
    model = run_folder.local_backbone(backbone_source(folder, config.motion_run), config.model)
    check_backbone_files(model)
    if config.training.stage == 1:
        outline(MotionModel, model)
    else:
        check_room(data, outline(PolicyModel, model))


def resumed_config(request: Request, stored: RunConfig, data: TrainingData) -> RunConfig:
    """The stored config of a resumed run. The request may only change rates, the number of checkpoints that are kept
    and the number of steps, to more. The shards must be the same, but may have been moved.

    Raises:
        BadRun: the request or the data contradict the stored config.
    """
    options = dict(request.options)
    done = max(steps_in(request.output / run_folder.CHECKPOINTS), default=0)
    rates = {name: value for name, value in options.items() if OPTIONS[name].option.may_change}
    training = stored.training.resumed(rates, done)
    others = {name: value for name, value in options.items() if name not in rates}
    pairs = [(place.name.replace("_", "-"), has, value) for place, has, value in contradictions(stored, others)]
    for name, has, value in (
        ("preset", stored.preset, request.preset),
        ("motion", _prior_of(stored.model), request.prior),
    ):
        if value is not None and has != value:
            pairs.append((name, has, value))
    if pairs:
        different = ", ".join(f"{name} {has} and not {value}" for name, has, value in pairs)
        raise BadRun(f"{request.output} was begun with {different}: go on without these options, or begin anew")
    motion = request.motion_weights or request.motion
    if motion and stored.motion_run and Path(motion).resolve() != Path(stored.motion_run).resolve():
        raise BadRun(f"{request.output} was begun with the Motion Expert of {stored.motion_run}, not {motion}")
    _check_same_shards(request.output, stored.data, data)
    return replace(stored, training=training, data=replace(stored.data, path=str(data.path)))


def _check_same_shards(output: Path, stored: DataSource, data: TrainingData) -> None:
    if data.digest == stored.digest and data.manifests == stored.manifests:
        return
    for name in stored.manifests.keys() | data.manifests.keys():
        began, found = stored.manifests.get(name, "none"), data.manifests.get(name, "none")
        if began != found:
            raise BadRun(
                f"{output} was begun on other shards than {data.path} holds now: the SHA-256 of the manifest of {name} "
                f"was {began[:12]} and is {found[:12]}; give the same shards as --data, or begin anew"
            )
    raise BadRun(
        f"{output} was begun on other shards than {data.path} holds now: the mixture's digest was "
        f"{stored.digest[:12]} and is {data.digest[:12]}, so its weights or members differ; give the same as --data, "
        "or begin anew"
    )
