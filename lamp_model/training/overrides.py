"""The paper's ablations and other variants: what each changes, and where they contradict the run that they build or go
on with.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lamp_model.config import ACTION_HEADS, BACKBONES, FUSIONS, ModelConfig
from lamp_model.errors import BadRun
from lamp_model.training.plugin_options import backbone_options, fusion_options, head_options
from schemas.plugins import PluginChoice, load_plugin

MOTIONS = ("none", "2d", "3d")


@dataclass(frozen=True)
class Variants:
    """Deviations from the paper's model; None leaves it as it is.

    Attributes:
        motion: the prior: ``3d`` (paper), ``2d`` (depth masked; decided in stage 1) or ``none`` (stage 2 without stage
            1).
        fusion: a plug-in of ``lamp_model.fusions``, with options as ``name:option=value``.
        guidance_steps: Euler steps before the hidden state is taken (paper: 1).
        backbone: a plug-in of ``lamp_model.backbones``, with options; decided where the motion is trained.
        action_head: a plug-in of ``lamp_model.action_heads``, with options.
        lora_rank: of adapters in the backbone, which stage 2 trains; 0: none.
        positions: of the action head's longest sequence: an action chunk and the backbone's features.
        chunk: actions predicted at once.
    """

    motion: Literal["none", "2d", "3d"] | None = None
    fusion: str | None = None
    guidance_steps: int | None = None
    backbone: str | None = None
    action_head: str | None = None
    lora_rank: int | None = None
    positions: int | None = None
    chunk: int | None = None


def apply(variants: Variants, model: ModelConfig, motion_run: str | None) -> ModelConfig:
    """The model with the variants.

    Args:
        variants: checked.
        model: the preset's, fitted to the data and, in stage 2, to the run of stage 1.
        motion_run: that run.

    Raises:
        ValueError: the run of stage 1 was trained otherwise, or a number makes no sense.
    """
    if variants.backbone is not None:
        model = _with_backbone(variants.backbone, model, motion_run)
    if variants.action_head is not None:
        name = PluginChoice.parse(variants.action_head).name
        model = replace(model, action_head=name, action_head_options=head_options(variants.action_head))
    sizes = {"positions": variants.positions, "chunk": variants.chunk}
    given = {name: size for name, size in sizes.items() if size is not None}
    if given:  # together: each is held to the other
        model = replace(model, action=replace(model.action, **given))
    if variants.lora_rank is not None:
        model = replace(model, lora_rank=variants.lora_rank)
    if variants.motion == "none":
        return replace(model, guided=False)
    if variants.motion is not None:
        depth = variants.motion == "3d"
        if motion_run is not None and model.motion.depth != depth:
            has = "3d" if model.motion.depth else "2d"
            raise BadRun(
                f"{motion_run} was trained with --motion {has}, {variants.motion} was asked for: train stage 1 "
                "again, or give "
                "another run as --motion"
            )
        model = replace(model, motion=replace(model.motion, depth=depth))
    if variants.guidance_steps is not None:
        model = replace(model, motion=replace(model.motion, guidance_steps=variants.guidance_steps))
    if variants.fusion is not None:
        name = PluginChoice.parse(variants.fusion).name
        model = replace(model, fusion=name, fusion_options=fusion_options(variants.fusion, model.fusion_options))
    return model


def _with_backbone(backbone: str, model: ModelConfig, motion_run: str | None) -> ModelConfig:
    name, options = PluginChoice.parse(backbone).name, backbone_options(backbone)
    if motion_run is None:
        # A preset's options are of the preset's backbone.
        kept = model.backbone_options if name == model.backbone else {}
        return replace(model, backbone=name, backbone_options={**kept, **options})
    has = _contradicted(BACKBONES, backbone, options, model.backbone, model.backbone_options)
    if has:
        raise BadRun(
            f"{motion_run} was trained with the backbone {has}, {backbone} was asked for: a Motion Expert knows one "
            "backbone only; train stage 1 again, or give another run as --motion"
        )
    return model


def _contradicted(
    package: str, asked: str, options: Mapping[str, Any], has: str, has_options: Mapping[str, Any]
) -> str | None:
    """The plug-in that is there, with as many of its options as contradict what is asked for;
    None where nothing does.
    """
    if PluginChoice.parse(asked).name != has:
        return has
    defaults = {f.name: f.default for f in dataclasses.fields(load_plugin(package, has).Config)}
    there = {**defaults, **has_options}
    others = {key: there[key] for key, value in options.items() if there[key] != value}
    return str(PluginChoice(has, others)) if others else None


def check_resumed(variants: Variants, model: ModelConfig, output: Path) -> None:
    """Refuse to go on with other variants than the run was begun with.

    Raises:
        BadRun: they differ.
    """
    began = "none" if not model.guided else "3d" if model.motion.depth else "2d"
    pairs = [
        ("motion", variants.motion, began),
        ("guidance-steps", variants.guidance_steps, model.motion.guidance_steps),
        ("lora-rank", variants.lora_rank, model.lora_rank),
        ("positions", variants.positions, model.action.positions),
        ("chunk", variants.chunk, model.action.chunk),
    ]
    for option, package, read, asked, has, options in (
        ("backbone", BACKBONES, backbone_options, variants.backbone, model.backbone, model.backbone_options),
        ("action-head", ACTION_HEADS, head_options, variants.action_head, model.action_head, model.action_head_options),
        ("fusion", FUSIONS, _given_to_fusion, variants.fusion, model.fusion, model.fusion_options),
    ):
        if asked is not None:
            pairs.append((option, asked, _contradicted(package, asked, read(asked), has, options) or asked))
    for option, asked, has in pairs:
        if asked is not None and asked != has:
            raise BadRun(
                f"{output} was begun with {option} {has} and not {asked}: go on without this option, or begin anew"
            )


def _given_to_fusion(fusion: str) -> dict[str, Any]:
    return fusion_options(fusion, {})
