"""A published checkpoint as a model, strictly: no name missing, none left over, every shape right."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights

from lamp_model.checkpoints import BadCheckpoint, check_state, load_weights
from lamp_model.model import ModelConfig, PolicyModel
from lamp_model.motion_expert import MotionExpert
from lamp_model.normalisation import Normaliser, PublishedAction, PublishedState, range_of
from lamp_model.published import MOTION_PARTS, POLICY_PARTS
from lamp_model.published.config import read_config
from lamp_model.published.files import find, read_state

KEYS = ("libero", "franka")
"""Keys of the statistics, in the order in which they are looked for."""


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy from a published checkpoint, frozen and in evaluation mode.

    Attributes:
        pil_size: side to which PIL resizes images first, as the published code does; None leaves it to the backbone.
    """

    model: PolicyModel
    state: Normaliser
    action: Normaliser
    pil_size: int | None


def load_published_policy(source: str | Path, statistics_key: str | None = None) -> LoadedPolicy:
    """Load a whole policy.

    Raises:
        BadCheckpoint: it is incomplete, tampered with, of another model or of another size.
        MissingWeights: the backbone's architecture and tokenizer cannot be had.
    """
    files = find(source)
    config = read_config(files.config)
    statistics = read_statistics(files.statistics, statistics_key)
    _check_statistics(statistics, config.model, files.statistics)
    tensors = read_state(files.weights, POLICY_PARTS)
    model_config = replace(config.model, backbone_options={**config.model.backbone_options, "architecture_only": True})
    with init_empty_weights(include_buffers=False):  # names and shapes cost nothing, billions of weights do
        model = PolicyModel(model_config)
    check_state(model, tensors, str(files.weights))
    # The file's own tensors become the model's, mapped and in their precision: nothing is copied until it goes to a device.
    model.load_state_dict(tensors, assign=True)
    model.qwen_vl_interface.model.tie_weights()
    model.requires_grad_(False).eval()
    ranges = range_of(statistics, "state"), range_of(statistics, "action")
    if config.own_normalisation:
        return LoadedPolicy(model, *ranges, pil_size=None)
    state = PublishedState(ranges[0], mask_z=config.mask_z)
    return LoadedPolicy(model, state, PublishedAction(ranges[1]), model.qwen_vl_interface.config.image_size)


def load_published_motion(source: str | Path) -> MotionExpert:
    """Load a Motion Expert from motion weights, or from a whole policy, frozen and in evaluation mode.

    Raises:
        BadCheckpoint: it is incomplete, tampered with, of another model or of another size.
    """
    return motion_expert(*read_published_motion(source))


def read_published_motion(source: str | Path) -> tuple[ModelConfig, dict[str, torch.Tensor], str]:
    """What motion weights, or those of a whole policy, hold of the Motion Expert: the model that they belong to, the tensors by
    their names in ``MotionExpert`` (mapped, and not yet read), and the file.

    Raises:
        BadCheckpoint: it is incomplete or tampered with.
    """
    files = find(source, needs_statistics=False)
    config = read_config(files.config).model
    try:
        state = read_state(files.weights, MOTION_PARTS)
    except BadCheckpoint as error:
        try:
            state = read_state(files.weights, POLICY_PARTS)
        except BadCheckpoint:
            raise error from None
    head = f"{MOTION_PARTS[0]}."
    tensors = {name.removeprefix(head): tensor for name, tensor in state.items() if name.startswith(head)}
    return config, tensors, str(files.weights)


def motion_expert(config: ModelConfig, tensors: Mapping[str, torch.Tensor], where: str) -> MotionExpert:
    """A Motion Expert with these weights; the width of the features is theirs.

    Raises:
        BadCheckpoint: they are of another model or size.
    """
    width = tensors["vlm_proj.weight"].shape[-1] if "vlm_proj.weight" in tensors else 1
    with torch.device("meta"):
        expected = MotionExpert(config.motion, width)
    check_state(expected, tensors, where)
    expert = MotionExpert(config.motion, width)
    load_weights(expert, tensors, set(tensors), where)
    return expert.requires_grad_(False).eval()


def read_statistics(path: Path, key: str | None = None) -> dict[str, Any]:
    """One data set's statistics: those of the key, else of ``libero``, else of ``franka``.

    Raises:
        BadCheckpoint: the file is damaged or lacks them.
    """
    try:
        values = json.loads(path.read_bytes())
        wanted = (key,) if key else KEYS
        for name in wanted:
            if name in values:
                return values[name]
    except (OSError, ValueError, TypeError) as error:
        raise BadCheckpoint(f"{path} does not read as statistics: {error}") from error
    has = ", ".join(sorted(values)) if isinstance(values, dict) and values else "none"
    raise BadCheckpoint(f"{path} has no statistics for {' or '.join(wanted)}; it has: {has}")


def _check_statistics(statistics: Mapping[str, Any], model: ModelConfig, path: Path) -> None:
    for name, size in (("state", model.action.state_size), ("action", model.action.action_size)):
        try:
            found = range_of(statistics, name).size
        except ValueError as error:
            raise BadCheckpoint(f"{path}: {error}") from error
        if found != size:
            raise BadCheckpoint(f"{path} has {found} dimensions of {name}, the config says {size}")
