"""Checks of a run against its data and backbone, before anything is loaded."""

from pathlib import Path

from lamp_model.config import RunConfig
from lamp_model.data.dataset import MemberData, TrainingData
from lamp_model.errors import BadRun, TooLong
from lamp_model.model import PolicyModel
from lamp_model.model_config import ModelConfig
from schemas.plugins import MissingWeights


def check_actions(data: TrainingData, stage: int) -> None:
    """Refuse to learn actions where none were recorded, as of plain video.

    Raises:
        BadRun: this is stage 2, and some of the data have no actions; the message names them.
    """
    without = [one.name for one in data.embodied if one.statistics.get("action", {}).get("dimensions") == []]
    if stage == 2 and without:
        way = (
            "train stage 2 on a mixture without them" if len(without) < len(data.embodied) else "train stage 1 on them"
        )
        raise BadRun(f"{data.path} holds {', '.join(without)} without actions, which stage 2 learns: {way}")


def check_flow(data: TrainingData, config: RunConfig) -> None:
    """Refuse to learn flow where none was measured.

    Raises:
        BadRun: this is stage 1 or the joint objective, and some of the data were built with ``--flow none``.
    """
    if not config.training.learns_flow:
        return
    without = [member.name for member in data.members if not member.has_flow]
    if without:
        wanted = "stage 1 learns" if config.training.stage == 1 else "--objective joint learns"
        raise BadRun(
            f"{data.path} holds {', '.join(without)} without flow, which {wanted}: build it with another --flow than "
            "none, or train stage 2 on it"
        )


def check_depth(data: TrainingData, config: RunConfig, allowed: bool) -> None:
    """Refuse to learn motion from relative depth unless allowed: a motion of 1 is a different distance in every
    episode.

    Args:
        allowed: relative depth was requested.

    Raises:
        BadRun: some of the motion that would be learned is relative.
    """
    model = config.model
    learned = model.guided and model.motion.depth and config.training.learns_flow
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
    """Refuse a backbone's folder without weights, as in exported policies, whose weights are in the ``.pt``.

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
    """Refuse an action chunk that is longer than the data's, or too long beside the features. Only the first sample of
    each build is checked.

    Args:
        policy: may be an outline without weights.

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
    """Number of samples with relative depth; in old builds without this count, all or none."""
    shards = member.shards
    counted = shards.manifest.counts.get("relative_depth")
    if counted is not None:
        return int(counted)
    return len(shards) if len(shards) and shards.read(0).depth_unit == "relative" else 0
