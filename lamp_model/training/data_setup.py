"""What a run takes from its data: sizes, actions, and how samples of several datasets come to share a batch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lamp_model.config import BACKBONES, DataSource, ModelConfig, TrainingConfig
from lamp_model.data.dataset import MemberData, TrainingData
from lamp_model.data.embodiments import Embodiments, embodiments_of, run_statistics
from lamp_model.data.loader import Loader, split_members
from lamp_model.data.sample import SampleConfig
from lamp_model.data.sampler import Order
from lamp_model.errors import BadRun, TooLong
from lamp_model.model import PolicyModel
from schemas.plugins import MissingWeights, configure
from schemas.triplet import Triplet

ROLES = ("image", "wrist")
IMAGE_SIZE = 224
"""Side in pixels, for backbones that do not say theirs."""


def embodiments_in(data: TrainingData, source: DataSource) -> Embodiments:
    """Whose states and actions a run learns.

    Raises:
        BadRun: a form of the actions was asked for that is not there.
    """
    return embodiments_of(run_statistics(data, source.actions), data.embodied[0].name, source.normalisation)


def fitted(model: ModelConfig, data: TrainingData, source: DataSource) -> ModelConfig:
    """The model with the sizes that the data decide, and all images that any member has.

    Raises:
        BadRun: there is nothing to train on.
    """
    if not len(data):
        raise BadRun(f"{data.path} has no samples: look into its episodes.jsonl for the reasons")
    shown = {role for triplet in data.first_samples() for role in triplet.images}
    embodiments = embodiments_in(data, source)
    sizes = {"action_size": embodiments.action_size, "state_size": embodiments.state_size}
    action = replace(model.action, **sizes)
    return replace(model, action=action, cameras=tuple(role for role in ROLES if role in shown))


def check_actions(data: TrainingData, stage: int) -> None:
    """Refuse to learn actions where none were recorded, as of plain video.

    Raises:
        BadRun: stage 2 was asked for, and some of the data have no actions; the message names them.
    """
    without = [one.name for one in data.embodied if one.statistics.get("action", {}).get("dimensions") == []]
    if stage == 2 and without:
        way = (
            "train stage 2 on a mixture without them" if len(without) < len(data.embodied) else "train stage 1 on them"
        )
        raise BadRun(f"{data.path} holds {', '.join(without)} without actions, which stage 2 learns: {way}")


def check_depth(data: TrainingData, model: ModelConfig, training: TrainingConfig, allowed: bool) -> None:
    """Refuse to learn motion from depth without a scale, unasked: a motion of 1 means another distance in every
    episode.

    Args:
        allowed: it was asked for.

    Raises:
        BadRun: some of the motion that would be learned is relative.
    """
    learned = model.guided and model.motion.depth and (training.stage == 1 or training.objective == "joint")
    relative = sum(_relative_samples(member) for member in data.members)
    if not learned or not relative or allowed:
        return
    some = "all" if relative == len(data) else str(relative)
    raise BadRun(
        f"{some} of the {len(data)} samples in {data.path} have relative depth, without a scale (docs/depth.md): "
        "build them with something "
        "to align depth to, leave depth out with --motion 2d in stage 1, or take them as they are with --relative-depth"
    )


def check_backbone_files(model: ModelConfig) -> None:
    """Refuse a backbone's folder that has everything but weights, as exported policies have one: theirs are in the
    ``.pt``.

    Raises:
        MissingWeights: the folder has none.
    """
    folder = Path(str(model.backbone_options.get("weights", "")))
    if (folder / "config.json").is_file() and not any(any(folder.glob(kind)) for kind in ("*.safetensors", "*.bin")):
        raise MissingWeights(
            f"{folder} holds a backbone's config and tokenizer but no weights: put its .safetensors there; where it "
            "is part of an "
            "exported policy, give the run of stage 1 behind that as --motion"
        )


def check_room(data: TrainingData, policy: PolicyModel) -> None:
    """Refuse an action chunk that the data do not have or that leaves the features no room, by the first sample of each
    build.

    Args:
        policy: its outline is enough.

    Raises:
        BadRun: the samples have fewer actions.
        TooLong: the backbone's features do not fit beside the chunk.
    """
    sizes, cameras = policy.config.action, len(policy.config.cameras)
    first = list(data.first_samples())
    fewest = min(len(triplet.actions) for triplet in first)
    if sizes.chunk > fewest:
        raise BadRun(
            f"a chunk of {sizes.chunk} actions was asked for, the samples in {data.path} have {fewest}: give --chunk "
            f"{fewest} or less, "
            "or build the shards with more"
        )
    texts = [text for triplet in first for text in triplet.instructions] or [""]
    longest = max(policy.qwen_vl_interface.length(text, cameras) for text in texts)
    if longest + sizes.chunk > sizes.positions:
        raise TooLong(
            f"{longest} tokens of features and {sizes.chunk} actions exceed the {sizes.positions} positions of the "
            "action head: "
            f"give --positions {longest + sizes.chunk + 64} or more"
        )


def _relative_samples(member: MemberData) -> int:
    """How many samples have relative depth; builds before that was counted have all or none."""
    shards = member.shards
    counted = shards.manifest.counts.get("relative_depth")
    if counted is not None:
        return int(counted)
    return len(shards) if len(shards) and shards.read(0).depth_unit == "relative" else 0


def sample_configs(data: TrainingData, model: ModelConfig, embodiments: Embodiments) -> list[SampleConfig]:
    """What is taken from the samples of each of ``data.embodied``.

    Where there are several, or several cameras in one, pictures come in several sizes: they are resized to that of the
    backbone before they share a batch, and a camera that a member does not have is shown black.
    """
    options = configure(BACKBONES, model.backbone, model.backbone_options)
    several = len(data.embodied) > 1
    shown = [set(member.shards.read(0).images) if len(member.shards) else set() for member in data.members]
    common: dict[str, Any] = {
        "cameras": model.cameras,
        "chunk": model.action.chunk,
        "points": model.motion.grid**2,
        "horizon": model.motion.horizon,
        "image_size": getattr(options, "image_size", IMAGE_SIZE) if several or _several_cameras(data) else None,
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


def _several_cameras(data: TrainingData) -> bool:
    """Whether windows of more than one camera are among the samples; the cameras of a robot differ in size."""
    chosen = [member.shards.manifest.recipe.get("cameras", []) for member in data.members]
    return any(len(cameras) > 1 or "all" in cameras for cameras in chosen)


def loaders(
    data: TrainingData, model: ModelConfig, source: DataSource, training: TrainingConfig, threads: int
) -> tuple[Loader, Loader | None]:
    """Batches to train on, and to look at; None where nothing is held out."""
    generated = training.instructions == "all"
    changes = {"generated": generated, "retargeted": training.retarget}
    taken = [replace(c, **changes) for c in sample_configs(data, model, embodiments_in(data, source))]
    numbers, held_out = split_members(data, training.val_fraction)
    for line in described(data, numbers, held_out, taken):
        print(line)
    counts = np.bincount(data.member_of(numbers), minlength=len(data.members)).tolist()
    weights = [member.weight for member in data.members if member.weight is not None]
    order = Order(training.seed, counts, weights or None)

    def config_of(number: int, triplet: Triplet) -> SampleConfig:
        return taken[data.embodiment_of(number, triplet)]

    train = Loader(data, numbers, config_of, training.batch_size, training.seed, threads, order=order)
    if not len(held_out):
        print("nothing is held out (one episode, or --val-fraction 0): there will be no validation")
        return train, None
    spread = held_out[np.unique(np.linspace(0, len(held_out) - 1, training.val_samples).round().astype(int))]
    batch = min(training.batch_size, 32)
    return train, Loader(data, spread, config_of, batch, training.seed, threads)


def described(
    data: TrainingData, numbers: np.ndarray, held_out: np.ndarray, taken: Sequence[SampleConfig]
) -> list[str]:
    """What is trained on, in lines for a person."""
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
