"""Loads a published checkpoint strictly: names and shapes must match the model exactly."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lamp_model.backbones import feature_width
from lamp_model.data.embodiments import convention_of, state_names_of
from lamp_model.data.normalisation import Normaliser, PublishedAction, PublishedState, Range, range_of
from lamp_model.errors import BadCheckpoint
from lamp_model.model import PolicyModel, outline
from lamp_model.model_config import ACTION_HEADS, BACKBONES, FUSIONS, ORIENTATIONS, ModelConfig
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.networks.weights import check_state, load_weights
from lamp_model.options import with_options
from lamp_model.published import MOTION_PARTS, POLICY_PARTS
from lamp_model.published.config import PublishedConfig, read_config
from lamp_model.published.files import PublishedFiles, fetched, find, read_state, verify_weights
from schemas.episode import ActionConvention
from schemas.errors import first_line
from schemas.plugins import MissingDependency, configure
from schemas.robot_conventions import LIBERO_DELTA_OPEN, LIBERO_STATE

KEYS = ("libero", "franka")
"""Keys of the statistics, in the order in which they are looked for."""


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy from a published checkpoint, frozen and in evaluation mode.

    Attributes:
        pil_size: side to which PIL resizes images first, as the published code does; None leaves it to the backbone.
        convention: of the actions: that of the statistics, as in an exported run; the authors' LIBERO statistics do not
            hold it, and it is known; else None.
        state_names: of the state's dimensions, likewise.
        statistics_key: of the statistics that were taken.
    """

    model: PolicyModel
    state: Normaliser
    action: Normaliser
    pil_size: int | None
    convention: ActionConvention | None
    state_names: tuple[str, ...] | None
    statistics_key: str


@dataclass(frozen=True)
class PublishedMotion:
    """A Motion Expert of a published checkpoint.

    Attributes:
        config: of the checkpoint; says whose weights they are (``own_normalisation``).
        tensors: by their names in ``MotionExpert``, memory mapped, not read yet.
        whole: the file holds a whole policy, including its backbone.
    """

    config: PublishedConfig
    tensors: dict[str, torch.Tensor]
    files: PublishedFiles
    whole: bool

    @property
    def where(self) -> str:
        """The file that holds the tensors."""
        return str(self.files.weights)


def load_published_policy(
    source: str | Path,
    statistics_key: str | None = None,
    features: str | None = None,
    image_orientation: str | None = None,
) -> LoadedPolicy:
    """Load a whole policy.

    Args:
        features: see ``lamp_model.backbones.qwen3_vl.Config``; None takes those of the config.
        image_orientation: see ``lamp_model.model_config.ModelConfig``; None takes an exported run's own; for the
            authors' checkpoints, mirrored images with LIBERO's statistics, else upright ones.

    Raises:
        ValueError: there are no such features or no such orientation.
        BadCheckpoint: it is incomplete, tampered with, of another model or of another size.
        MissingDependency: the backbone's architecture and tokenizer cannot be loaded.
    """
    files = find(source)
    config = read_config(files.config)
    if features is not None:
        config.model.backbone_options["features"] = features
        configure(BACKBONES, config.model.backbone, config.model.backbone_options)
    name, statistics = read_statistics(files.statistics, statistics_key)
    config = replace(config, model=oriented(config, name, image_orientation))
    state, action = _ranges(statistics, config.model, files.statistics)
    convention, names = _convention(statistics, files.statistics), state_names_of(statistics["state"])
    if not config.own_normalisation and name == KEYS[0]:
        convention, names = convention or LIBERO_DELTA_OPEN, names or LIBERO_STATE
    check_parts(config, files.config)
    files = fetched(files)
    tensors = read_state(files, POLICY_PARTS)
    model = outline(PolicyModel, config.model)
    check_state(model, tensors, str(files.weights))
    verify_weights(files)
    # The model uses the file's memory-mapped tensors in their precision; they are copied only when moved to a device.
    model.load_state_dict(tensors, assign=True)
    backbone: Any = model.qwen_vl_interface  # always Qwen3-VL in this layout
    backbone.model.tie_weights()
    model.requires_grad_(False).eval()
    if config.own_normalisation:
        return LoadedPolicy(model, state, action, None, convention, names, name)
    image_size = backbone.config.image_size
    told = PublishedState(state, mask_z=config.mask_z)
    return LoadedPolicy(model, told, PublishedAction(action), image_size, convention, names, name)


def oriented(config: PublishedConfig, statistics: str | None, asked: str | None) -> ModelConfig:
    """The model config with the requested image orientation, or else the one these weights were trained with.

    Args:
        statistics: the data set whose statistics are used; None where there are none, as beside motion weights.
        asked: see ``load_published_policy``.

    Raises:
        ValueError: there is no such orientation.
    """
    if asked not in (None, *ORIENTATIONS):
        raise ValueError(f"image_orientation must be one of {', '.join(ORIENTATIONS)}, found {asked!r}")
    if asked is None and (config.own_normalisation or statistics in (KEYS[0], None)):
        return config.model
    return with_options(config.model, {"image_orientation": asked or "upright"})


def check_parts(config: PublishedConfig, path: Path) -> None:
    """Check that the parts of a config exist and fit, from the backbone's own config, without reading weights.

    Raises:
        BadCheckpoint: a part is unknown or refuses its sizes, or the width of the features differs from the config.
        MissingDependency: the backbone's config cannot be loaded.
    """
    model = config.model
    try:
        width = feature_width(model.backbone, model.backbone_options)
        widths = {"feature_width": width, "motion_width": model.motion.width}
        configure(FUSIONS, model.fusion, {**model.fusion_options, **widths})
        filled = {"sizes": model.action, "feature_width": width}
        configure(ACTION_HEADS, model.action_head, {**model.action_head_options, **filled})
    except MissingDependency:
        raise
    except (ValueError, TypeError, ArithmeticError) as error:
        raise BadCheckpoint(f"{path} asks for a model that cannot be: {first_line(error)}") from error
    if config.feature_width not in (None, width):
        raise BadCheckpoint(
            f"{path} says vl_hidden_dim {config.feature_width}, the features of its backbone are {width} wide"
        )


def load_published_motion(source: str | Path) -> MotionExpert:
    """Load a Motion Expert from motion weights, or from a whole policy, frozen and in evaluation mode.

    Raises:
        BadCheckpoint: it is incomplete, tampered with, of another model or of another size.
    """
    found = read_published_motion(source)
    return motion_expert(found.config.model, found.tensors, found.where)


def read_published_motion(source: str | Path) -> PublishedMotion:
    """Read the Motion Expert from motion weights or from a whole policy.

    Raises:
        BadCheckpoint: it is incomplete or tampered with.
    """
    files = find(source, needs_statistics=False)
    config = read_config(files.config)
    files, whole = fetched(files), False
    try:
        state = read_state(files, MOTION_PARTS)
    except BadCheckpoint as error:
        try:
            state, whole = read_state(files, POLICY_PARTS), True
        except BadCheckpoint:
            raise error from None
    head = f"{MOTION_PARTS[0]}."
    tensors = {name.removeprefix(head): tensor for name, tensor in state.items() if name.startswith(head)}
    _expected_motion(config.model, tensors, str(files.weights))
    verify_weights(files)
    return PublishedMotion(config, tensors, files, whole)


def _expected_motion(config: ModelConfig, tensors: Mapping[str, torch.Tensor], where: str) -> int:
    """Check names and shapes against the config; return the width of the features, taken from the weights."""
    projection = tensors.get("vlm_proj.weight")
    width = projection.shape[-1] if projection is not None and projection.ndim == 2 else 1
    with torch.device("meta"):
        check_state(MotionExpert(config.motion, max(width, 1)), tensors, where)
    return width


def motion_expert(config: ModelConfig, tensors: Mapping[str, torch.Tensor], where: str) -> MotionExpert:
    """A Motion Expert with these weights; the width of the features is taken from them.

    Raises:
        BadCheckpoint: they are of another model or size.
    """
    expert = MotionExpert(config.motion, _expected_motion(config, tensors, where))
    load_weights(expert, tensors, set(tensors), where)
    return expert.requires_grad_(False).eval()


def read_statistics(path: Path, key: str | None = None) -> tuple[str, dict[str, Any]]:
    """Name and statistics of one dataset: that of the key, else ``libero``, else ``franka``.

    Raises:
        BadCheckpoint: the file is damaged or lacks them.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{path} does not read as statistics: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise BadCheckpoint(f"{path} must hold statistics by the names of data sets, found {type(values).__name__}")
    wanted = (key,) if key else KEYS
    for name in wanted:
        if isinstance(values.get(name), dict):
            return name, values[name]
    has = ", ".join(sorted(values)) or "none"
    raise BadCheckpoint(f"{path} has no statistics for {' or '.join(wanted)}; it has: {has}")


def _ranges(statistics: Mapping[str, Any], model: ModelConfig, path: Path) -> tuple[Range, Range]:
    """The ranges of states and of actions."""
    found = []
    for name, size in (("state", model.action.state_size), ("action", model.action.action_size)):
        try:
            found.append(range_of(statistics, name))
        except ValueError as error:
            raise BadCheckpoint(f"{path}: {name}: {first_line(error)}") from error
        if found[-1].size != size:
            raise BadCheckpoint(f"{path} has {found[-1].size} dimensions of {name}, the config says {size}")
    return found[0], found[1]


def _convention(statistics: Mapping[str, Any], path: Path) -> ActionConvention | None:
    try:
        return convention_of(statistics["action"])
    except ValueError as error:
        raise BadCheckpoint(f"{path}: {error}") from error
