"""Sets up a run from its data: sizes, actions, and batches that mix samples of several datasets."""

from collections.abc import Container, Sequence
from dataclasses import replace
from math import isqrt
from typing import Any

import numpy as np

from lamp_model.config import DataSource, RunConfig, TrainingConfig
from lamp_model.data.augmentation import Augmenter
from lamp_model.data.dataset import TrainingData
from lamp_model.data.embodiments import Embodiments, embodiments_of, run_statistics
from lamp_model.data.loader import Loader
from lamp_model.data.sample import SampleConfig
from lamp_model.data.sampler import Order
from lamp_model.errors import BadRun
from lamp_model.model_config import BACKBONES, ModelConfig, MotionConfig
from lamp_model.training.distributed.ranks import ALONE, Ranks
from lamp_model.training.init_motion import MotionSource
from schemas.plugins import configure
from schemas.triplet import Triplet

ROLES = ("image", "wrist")
IMAGE_SIZE = 224
"""Side in pixels, for backbones without a setting of their own."""


def embodiments_in(data: TrainingData, source: DataSource) -> Embodiments:
    """The embodiments of a run.

    Raises:
        BadRun: the data do not have the requested form of the actions.
    """
    return embodiments_of(run_statistics(data, source.actions), data.embodied[0].name, source.normalisation)


def fitted(
    config: RunConfig, data: TrainingData, asked: Container[str] = (), motion: MotionSource | None = None
) -> ModelConfig:
    """The model config with the sizes of the data and the cameras of all members.

    Args:
        asked: the given options; a grid or a horizon among them is kept.
        motion: source of the Motion Expert; its sizes and cameras are kept.

    Raises:
        BadRun: there is nothing to train on, or the data do not fit the kept settings.
    """
    if not len(data):
        raise BadRun(f"{data.path} has no samples: look into its episodes.jsonl for the reasons")
    shown = {role for triplet in data.first_samples() for role in triplet.images}
    cameras = tuple(role for role in ROLES if role in shown)
    if motion is not None and not set(cameras) <= set(motion.model.cameras):
        raise BadRun(
            f"{motion.where} was trained with the images {', '.join(motion.model.cameras)}, {data.path} has "
            f"{', '.join(cameras)}"
        )
    embodiments = embodiments_in(data, config.data)
    sizes = {"action_size": embodiments.action_size, "state_size": embodiments.state_size}
    model = replace(config.model, action=replace(config.model.action, **sizes))
    if motion is None:
        model = replace(model, cameras=cameras)
    return replace(model, motion=_fitted_motion(model.motion, data, asked, motion)) if model.guided else model


def _fitted_motion(
    sizes: MotionConfig, data: TrainingData, asked: Container[str], motion: MotionSource | None
) -> MotionConfig:
    """Grid and horizon: as requested or as in the Motion Expert, if the shards have them; else those of the shards.
    Shards without flow decide nothing.
    """
    there = {m.name: _flow_size(m.shards.read(0)) for m in data.members if len(m.shards) and m.has_flow}
    chosen = {}
    for place, name in enumerate(("grid", "horizon")):
        found = {member: size[place] for member, size in there.items()}
        stays = name in asked or motion is not None
        if not stays and len(set(found.values())) > 1:
            listed = ", ".join(f"{member} {size}" for member, size in found.items())
            raise BadRun(f"the members of {data.path} differ in their {name} ({listed}): choose one with --{name}")
        chosen[name] = getattr(sizes, name) if stays else next(iter(found.values()))
        for member, size in found.items():
            _check_flow_size(name, chosen[name], size, f"{member} in {data.path}", motion)
    try:
        return replace(sizes, **chosen)
    except ValueError as error:
        raise BadRun(
            f"{data.path} has a grid of {chosen['grid']} and a horizon of {chosen['horizon']}, which the Motion Expert "
            f"cannot have: {error}; give --grid or --horizon, or build the shards with others"
        ) from error


def _flow_size(triplet: Triplet) -> tuple[int, int]:
    """(grid, horizon)"""
    return isqrt(triplet.flow.uvz.shape[0]), triplet.flow.horizon


def _check_flow_size(name: str, wanted: int, has: int, where: str, motion: MotionSource | None) -> None:
    fits = has % wanted == 0 if name == "grid" else has >= wanted
    if fits:
        return
    who = "was asked for" if motion is None else f"is what the Motion Expert of {motion.where} has"
    rule = "a grid that divides theirs" if name == "grid" else "as many steps or fewer"
    option = "--grid" if name == "grid" else "--horizon"
    raise BadRun(
        f"a {name} of {wanted} {who}, and the samples of {where} have {has}: choose {rule}, or build the shards with "
        f"lamp-data build {option} {wanted}"
    )


def sample_configs(data: TrainingData, model: ModelConfig, embodiments: Embodiments, flow: bool) -> list[SampleConfig]:
    """What is taken from the samples of each of ``data.embodied``.

    With several of them, several cameras in one, or plain videos, images have different sizes: they are resized to the
    backbone's size before batching, and a camera that a member does not have is replaced by a black image.

    Args:
        flow: it is learnt; without, none is taken, and the samples need not have any.
    """
    options = configure(BACKBONES, model.backbone, model.backbone_options)
    several = len(data.embodied) > 1
    shown = [set(member.shards.read(0).images) if len(member.shards) else set() for member in data.members]
    common: dict[str, Any] = {
        "cameras": model.cameras,
        "chunk": model.action.chunk,
        "points": model.motion.grid**2 if flow else 0,
        "horizon": model.motion.horizon if flow else 0,
        "flips": model.flips,
        "image_size": getattr(options, "image_size", IMAGE_SIZE) if several or _several_sizes(data) else None,
    }
    sizes: dict[str, Any] = {"state_size": embodiments.state_size, "action_size": embodiments.action_size}
    return [
        SampleConfig(
            **common,
            **(sizes if several else {}),
            standard=embodiments[one.name].standard,
            embodiment=number,
            black=tuple(role for role in model.cameras if role not in shown[one.member]),
        )
        for number, one in enumerate(data.embodied)
    ]


def _several_sizes(data: TrainingData) -> bool:
    """Whether images may differ in size: windows of more than one camera, or plain videos, which come as they are."""
    recipes = [member.shards.manifest.recipe for member in data.members]
    chosen = [recipe.get("cameras", []) for recipe in recipes]
    plain = any(recipe.get("dataset", {}).get("name") == "video" for recipe in recipes)
    return plain or any(len(cameras) > 1 or "all" in cameras for cameras in chosen)


def loaders(
    data: TrainingData,
    split: tuple[np.ndarray, np.ndarray],
    model: ModelConfig,
    source: DataSource,
    training: TrainingConfig,
    threads: int,
    ranks: Ranks = ALONE,
) -> tuple[Loader, Loader | None]:
    """Loaders for training and validation; the second is None where nothing is held out.

    Args:
        split: numbers of the samples to train on and of those held out.
    """
    generated, flow = training.instructions == "all", training.learns_flow
    changes = {"generated": generated, "retargeted": training.retarget and flow}
    taken = [replace(c, **changes) for c in sample_configs(data, model, embodiments_in(data, source), flow)]
    numbers, held_out = split
    for line in described(data, numbers, held_out, taken):
        print(line)
    counts = np.bincount(data.member_of(numbers), minlength=len(data.members)).tolist()
    weights = [member.weight for member in data.members if member.weight is not None]
    order = Order(training.seed, counts, weights or None)

    def config_of(number: int, triplet: Triplet) -> SampleConfig:
        return taken[data.embodiment_of(number, triplet)]

    share: dict[str, Any] = {"rank": ranks.rank, "world": ranks.world, "flow": flow}
    if training.augments:
        share["augmenter"] = Augmenter(training.seed, training.augment_crop, training.augment_colour, model.cameras)
    train = Loader(data, numbers, config_of, training.batch_size, training.seed, threads, order=order, **share)
    if not len(held_out):
        print("nothing is held out (one episode, or --val-fraction 0): there will be no validation")
        return train, None
    spread = held_out[np.unique(np.linspace(0, len(held_out) - 1, training.val_samples).round().astype(int))]
    batch = min(training.batch_size, 32)
    return train, Loader(data, spread, config_of, batch, training.seed, threads, flow=flow)


def described(
    data: TrainingData, numbers: np.ndarray, held_out: np.ndarray, taken: Sequence[SampleConfig]
) -> list[str]:
    """A readable description of the training data."""
    episodes = data.index["episode"]
    lines = [
        f"data: {len(numbers)} samples of {len(set(episodes[numbers].tolist()))} episodes to train on, "
        f"{len(held_out)} of {len(set(episodes[held_out].tolist()))} held out"
    ]
    mine = data.member_of(numbers)
    total = sum(member.weight or 0 for member in data.members)
    for number, member in enumerate(data.members):
        roles = {
            role
            for one, config in zip(data.embodied, taken, strict=True)
            if one.member == number
            for role in config.black
        }
        black = f"; {', '.join(sorted(roles))} is shown black" if roles else ""
        count = int((mine == number).sum())
        share = member.weight / total if member.weight else count / max(len(numbers), 1)
        if len(data.members) > 1 or black:
            lines.append(f"  {member.name}: {count} samples, {share:.1%} of those drawn{black}")
    return lines
