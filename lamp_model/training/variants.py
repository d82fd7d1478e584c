"""The paper's ablations and other variants: what each changes, and which cannot be, settled before anything is loaded."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lamp_model.adapters import check_rank
from lamp_model.model import ACTION_HEADS, BACKBONES, FUSIONS, ModelConfig
from lamp_model.run_folder import BadRun
from schemas.plugins import PluginChoice, configure, load_plugin

MOTIONS = ("none", "2d", "3d")


@dataclass(frozen=True)
class Variants:
    """Deviations from the paper's model; None leaves it as it is.

    Attributes:
        motion: the prior: ``3d`` (paper), ``2d`` (depth masked; decided in stage 1) or ``none`` (stage 2 without stage 1).
        fusion: a plug-in of ``lamp_model.fusions``, with options as ``name:option=value``.
        guidance_steps: Euler steps before the hidden state is taken (paper: 1).
        backbone: a plug-in of ``lamp_model.backbones``, with options; decided where the motion is trained.
        action_head: a plug-in of ``lamp_model.action_heads``, with options.
        lora_rank: of adapters in the backbone, which stage 2 trains; 0: none.
        positions: of the action head's longest sequence: an action chunk and the backbone's features.
    """

    motion: Literal["none", "2d", "3d"] | None = None
    fusion: str | None = None
    guidance_steps: int | None = None
    backbone: str | None = None
    action_head: str | None = None
    lora_rank: int | None = None
    positions: int | None = None


def check(
    stage: int, variants: Variants, options: Mapping[str, Any], motion_run: Path | None, motion_weights: str | None
) -> None:
    """Refuse what cannot be, with the reason.

    Args:
        stage, variants, options: as asked for; None and what is missing leave things as they are.
        motion_run, motion_weights: of stage 2: where its Motion Expert comes from.

    Raises:
        ValueError: variants contradict each other or the stage, or a name is unknown.
    """
    of_policy = {
        "--fusion": variants.fusion,
        "--guidance-steps": variants.guidance_steps,
        "--action-head": variants.action_head,
        "--lora-rank": variants.lora_rank,
        "--positions": variants.positions,
        "--motion-weights": motion_weights,
        "--objective": options.get("objective"),
        "--motion-weight": options.get("motion_weight"),
        "--motion-rate": options.get("motion_rate"),
    }
    given = [name for name, value in of_policy.items() if value is not None]
    if stage == 1 and variants.motion == "none":
        raise ValueError(
            "stage 1 trains the motion: for a policy without any, begin with lamp-train --stage 2 --motion none"
        )
    if stage == 1 and given:
        raise ValueError(f"{given[0]} belongs to stage 2: stage 1 trains the Motion Expert only")
    free = {"--action-head", "--lora-rank", "--positions"} | (
        {"--objective"} if options.get("objective") == "action" else set()
    )
    needs_motion = [name for name in given if name not in free]
    if variants.motion == "none" and needs_motion:
        raise ValueError(f"{needs_motion[0]} needs a motion, and --motion none leaves it out")
    if motion_weights is not None and motion_run is not None:
        raise ValueError("--motion and --motion-weights both say where the Motion Expert comes from: give one of them")
    if motion_weights is not None and variants.lora_rank:
        raise ValueError(
            "--lora-rank changes the features that published motion weights were trained on, and their layout has no room for "
            "adapters: train stage 1 here first, or leave --lora-rank out"
        )
    if options.get("objective") != "joint":
        for name in ("--motion-weight", "--motion-rate"):
            if name in given:
                raise ValueError(f"{name} is of the joint objective: add --objective joint")
    if variants.fusion is not None:
        fusion_options(variants.fusion, {})
    if variants.action_head is not None:
        head_options(variants.action_head)
    if variants.backbone is not None:
        backbone_options(variants.backbone)
    check_rank(variants.lora_rank or 0)


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
    if variants.positions is not None:
        model = replace(model, action=replace(model.action, positions=variants.positions))
    if variants.lora_rank is not None:
        model = replace(model, lora_rank=variants.lora_rank)
    if variants.motion == "none":
        return replace(model, guided=False)
    if variants.motion is not None:
        depth = variants.motion == "3d"
        if motion_run is not None and model.motion.depth != depth:
            has = "3d" if model.motion.depth else "2d"
            raise BadRun(
                f"{motion_run} was trained with --motion {has}, {variants.motion} was asked for: train stage 1 again, or give "
                "another run as --motion"
            )
        model = replace(model, motion=replace(model.motion, depth=depth))
    if variants.guidance_steps is not None:
        model = replace(model, motion=replace(model.motion, guidance_steps=variants.guidance_steps))
    if variants.fusion is not None:
        name = PluginChoice.parse(variants.fusion).name
        model = replace(model, fusion=name, fusion_options=fusion_options(variants.fusion, model.fusion_options))
    return model


def fusion_options(fusion: str, preset: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a fusion: the preset's as far as it has them, and those that were given.

    Raises:
        ValueError: the fusion or an option is unknown, or a value makes no sense.
    """
    choice = PluginChoice.parse(fusion)
    names = {f.name for f in dataclasses.fields(load_plugin(FUSIONS, choice.name).Config)}
    given = {key.replace("-", "_"): value for key, value in choice.options.items()}
    taken = {key: value for key, value in preset.items() if key in names} | given
    # The width of the features is known when the backbone is there; until then, one that any number of heads divides.
    width = {"feature_width": int(taken["heads"])} if str(taken.get("heads", "")).isdigit() else {}
    config = configure(FUSIONS, choice.name, {**taken, **width})
    return {key: getattr(config, key) for key in taken}


def head_options(head: str) -> dict[str, Any]:
    """Options that were given for an action head.

    Raises:
        ValueError: the head or an option is unknown, or a value makes no sense.
    """
    return _given(ACTION_HEADS, head, of_the_model=("sizes", "feature_width"))


def backbone_options(backbone: str) -> dict[str, Any]:
    """Options that were given for a backbone. No weights are looked for.

    Raises:
        ValueError: the backbone or an option is unknown, or a value makes no sense.
    """
    return _given(BACKBONES, backbone, of_the_model=("architecture_only",))


def _given(package: str, text: str, of_the_model: tuple[str, ...]) -> dict[str, Any]:
    choice = PluginChoice.parse(text)
    keys = [key.replace("-", "_") for key in choice.options]
    for key in keys:
        if key in of_the_model:
            raise ValueError(f"{choice.name!r} takes {key!r} from the rest of the model: leave it out")
    config = choice.configure(package)
    return {key: getattr(config, key) for key in keys}


def _with_backbone(backbone: str, model: ModelConfig, motion_run: str | None) -> ModelConfig:
    name, options = PluginChoice.parse(backbone).name, backbone_options(backbone)
    if motion_run is None:
        # A preset's options are of the preset's backbone.
        kept = model.backbone_options if name == model.backbone else {}
        return replace(model, backbone=name, backbone_options={**kept, **options})
    same = name == model.backbone and all(model.backbone_options.get(key) == value for key, value in options.items())
    if not same:
        raise BadRun(
            f"{motion_run} was trained with the backbone {_named(model)}, {backbone} was asked for: a Motion Expert knows one "
            "backbone only; train stage 1 again, or give another run as --motion"
        )
    return model


def _named(model: ModelConfig) -> str:
    return str(PluginChoice(model.backbone, model.backbone_options))


def check_widths(model: ModelConfig, stage: int) -> None:
    """Refuse a fusion that does not fit the backbone's features, for which its config is read and not its weights.

    Raises:
        ValueError: they do not fit, or there is no such backbone.
    """
    options = configure(BACKBONES, model.backbone, model.backbone_options)
    width = load_plugin(BACKBONES, model.backbone).feature_width(options)
    if model.guided and stage == 2:
        widths = {"feature_width": width, "motion_width": model.motion.width}
        configure(FUSIONS, model.fusion, {**model.fusion_options, **widths})


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
    ]
    if variants.backbone is not None:
        options = backbone_options(variants.backbone)
        same = (
            PluginChoice.parse(variants.backbone).name == model.backbone
            and options.items() <= model.backbone_options.items()
        )
        pairs.append(("backbone", variants.backbone, variants.backbone if same else _named(model)))
    if variants.action_head is not None:
        has = str(PluginChoice(model.action_head, model.action_head_options))
        asked = PluginChoice(PluginChoice.parse(variants.action_head).name, head_options(variants.action_head))
        pairs.append(("action-head", str(asked), has))
    if variants.fusion is not None:
        name = PluginChoice.parse(variants.fusion).name
        options = fusion_options(variants.fusion, model.fusion_options if name == model.fusion else {})
        same = (name, options) == (model.fusion, model.fusion_options)
        pairs.append(("fusion", variants.fusion, variants.fusion if same else model.fusion))
    for option, asked, has in pairs:
        if asked is not None and asked != has:
            raise BadRun(
                f"{output} was begun with {option} {has} and not {asked}: go on without this option, or begin anew"
            )
