"""The paper's ablations and other variants: what each changes, and which cannot be, settled before anything is loaded."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lamp_model.model import FUSIONS, ModelConfig
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
    """

    motion: Literal["none", "2d", "3d"] | None = None
    fusion: str | None = None
    guidance_steps: int | None = None


def check(stage: int, variants: Variants, options: Mapping[str, Any]) -> None:
    """Refuse what cannot be, with the reason.

    Raises:
        ValueError: variants contradict each other or the stage, or a name is unknown.
    """
    of_policy = {
        "--fusion": variants.fusion,
        "--guidance-steps": variants.guidance_steps,
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
    needs_motion = [name for name in given if name != "--objective" or options["objective"] == "joint"]
    if variants.motion == "none" and needs_motion:
        raise ValueError(f"{needs_motion[0]} needs a motion, and --motion none leaves it out")
    if options.get("objective") != "joint":
        for name in ("--motion-weight", "--motion-rate"):
            if name in given:
                raise ValueError(f"{name} is of the joint objective: add --objective joint")
    if variants.fusion is not None:
        fusion_options(variants.fusion, {})


def apply(variants: Variants, model: ModelConfig, motion_run: str | None) -> ModelConfig:
    """The model with the variants.

    Args:
        variants: checked.
        model: the preset's, fitted to the data and, in stage 2, to the run of stage 1.
        motion_run: that run.

    Raises:
        ValueError: the run of stage 1 was trained otherwise, or a number makes no sense.
    """
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


def check_resumed(variants: Variants, model: ModelConfig, output: Path) -> None:
    """Refuse to go on with other variants than the run was begun with.

    Raises:
        BadRun: they differ.
    """
    began = "none" if not model.guided else "3d" if model.motion.depth else "2d"
    pairs = [
        ("motion", variants.motion, began),
        ("guidance-steps", variants.guidance_steps, model.motion.guidance_steps),
    ]
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
