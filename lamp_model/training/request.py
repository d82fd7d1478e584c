"""A user's request for a stage of training, and its checks before any data is read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lamp_model.config import RunConfig
from lamp_model.model_config import check_rank
from lamp_model.options import Place, options_in, plugin_options

MOTIONS = ("none", "2d", "3d")
OPTIONS = options_in(RunConfig)
"""All options of a run by name."""


@dataclass(frozen=True)
class Request:
    """A user's request. Unset values are those of the resumed run, else of the preset.

    Attributes:
        motion: stage 2: a finished run of stage 1.
        prior: ``3d`` (paper), ``2d`` (depth masked; decided in stage 1) or ``none`` (stage 2 without stage 1).
        motion_weights: stage 2: published motion weights in place of a run of stage 1.
        options: values by the names of ``OPTIONS``.
        threads: number of threads that decode samples.
        relative_depth: motion may be learned from depth without a scale.
        cache_features: keep the backbone's features on disk; ``auto``: where the backbone runs on the CPU.
        cache_gb: GiB that they may take.
        micro_batch: samples in one forward and backward pass on one device; ``auto``: as many as fit into its memory;
            None: all samples of a step that the device gets.
        track: names of ``lamp_model.training.tracking.TRACKERS``.
        profile: steps to trace; 0: none.
    """

    stage: int
    data: Path | None
    output: Path
    motion: Path | None = None
    prior: Literal["none", "2d", "3d"] | None = None
    motion_weights: str | None = None
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    device: str = "auto"
    threads: int = 2
    relative_depth: bool = False
    cache_features: Literal["auto", "on", "off"] = "auto"
    cache_gb: float = 4.0
    micro_batch: int | Literal["auto"] | None = None
    track: tuple[str, ...] = ()
    profile: int = 0


def check(request: Request, objective: str) -> None:
    """Refuse an impossible request, with the reason.

    Args:
        objective: of the resumed run, where the request has none.

    Raises:
        ValueError: the request contradicts itself or the stage, a name is unknown or a number is invalid.
    """
    if request.threads < 1:
        raise ValueError(f"threads must be at least 1, found {request.threads}")
    if isinstance(request.micro_batch, int) and request.micro_batch < 1:
        raise ValueError(f"micro-batch must be at least 1 or auto, found {request.micro_batch}")
    if not 0 < request.cache_gb < math.inf:
        raise ValueError(f"cache-gb must be positive and finite, found {request.cache_gb}")
    if request.profile < 0:
        raise ValueError(f"profile must be a number of steps, found {request.profile}")
    given = [_place(name) for name in request.options]
    if "decay" in request.options and not request.resume and request.options.get("schedule") != "wsd":
        raise ValueError("--decay is how wsd comes down: add --schedule wsd, or leave it out")
    if request.stage == 1:
        _check_motion_stage(request, given)
    else:
        _check_policy_stage(request, given, request.options.get("objective", objective))
    for place in given:
        if place.option.plugin is not None:
            plugin_options(place.option.plugin, request.options[place.name])
    check_rank(request.options.get("lora_rank", 0))


def _place(name: str) -> Place:
    if name not in OPTIONS:
        raise ValueError(f"training has no option {name!r}; there are: {', '.join(OPTIONS)}")
    return OPTIONS[name]


def _check_motion_stage(request: Request, given: list[Place]) -> None:
    if request.prior == "none":
        raise ValueError(
            "stage 1 trains the motion: for a policy without any, begin with lamp-train --stage 2 --motion none"
        )
    if request.motion is not None:
        raise ValueError(
            f"--motion {request.motion} names a run for stage 2 to build on: in stage 1 --motion says 3d or 2d, and "
            "--output where the run goes"
        )
    of_policy = [place.flag for place in given if place.option.stage == 2]
    if request.motion_weights is not None:
        of_policy.append("--motion-weights")
    if of_policy:
        raise ValueError(f"{of_policy[0]} belongs to stage 2: stage 1 trains the Motion Expert only")


def _check_policy_stage(request: Request, given: list[Place], objective: str) -> None:
    joint, published = objective == "joint", request.motion_weights is not None
    need_motion = [place.flag for place in given if place.option.needs or (place.name == "objective" and joint)]
    if published:
        need_motion.append("--motion-weights")
    if request.prior == "none" and need_motion:
        raise ValueError(f"{need_motion[0]} needs a motion, and --motion none leaves it out")
    if published and request.motion is not None:
        raise ValueError("--motion and --motion-weights both say where the Motion Expert comes from: give one of them")
    learns = [n for n in ("lora_rank", "train_backbone") if request.options.get(n, "none") not in (0, "none")]
    if published and learns:
        flag = _place(learns[0]).flag
        raise ValueError(
            f"{flag} changes the features that published motion weights were trained on, and their layout has no "
            f"room for adapters: train stage 1 here first, or leave {flag} out"
        )
    need_joint = [place.flag for place in given if place.option.needs == "joint" and request.options[place.name]]
    if need_joint and not joint:
        raise ValueError(f"{need_joint[0]} is of the joint objective: add --objective joint")
