"""What a person asks of a stage of training, and which of it cannot be, settled before anything is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamp_model.config import check_rank
from lamp_model.data.normalisation import NORMALISATIONS
from lamp_model.training.overrides import Variants
from lamp_model.training.plugin_options import backbone_options, fusion_options, head_options


@dataclass(frozen=True)
class Request:
    """What a person asks for; None means: as in the run that goes on, else the preset's.

    Attributes:
        options: fields of ``TrainingConfig`` that were given.
        variants: deviations from the paper's model; see ``lamp_model.training.overrides``.
        motion: stage 2: a finished run of stage 1.
        motion_weights: stage 2: published motion weights in its place.
        actions: form of the actions that stage 2 learns; see ``lamp_model.data.embodiments.run_statistics``.
        normalisation: of states and actions.
        threads: that decode samples.
        relative_depth: motion may be learned from depth without a scale.
    """

    stage: int
    data: Path | None
    output: Path
    motion: Path | None = None
    motion_weights: str | None = None
    preset: str | None = None
    options: Mapping[str, Any] | None = None
    variants: Variants = field(default_factory=Variants)
    resume: bool = False
    device: str = "auto"
    threads: int = 2
    actions: str | None = None
    normalisation: str | None = None
    relative_depth: bool = False

    def of_policy(self) -> dict[str, Any]:
        """What was given that only stage 2 has, by the names of the command line."""
        variants, options = self.variants, self.options or {}
        every = {
            "--fusion": variants.fusion,
            "--guidance-steps": variants.guidance_steps,
            "--action-head": variants.action_head,
            "--lora-rank": variants.lora_rank,
            "--positions": variants.positions,
            "--chunk": variants.chunk,
            "--motion-weights": self.motion_weights,
            "--actions": self.actions,
            "--normalisation": self.normalisation,
            "--objective": options.get("objective"),
            "--motion-weight": options.get("motion_weight"),
            "--motion-rate": options.get("motion_rate"),
        }
        return {name: value for name, value in every.items() if value is not None}


NEED_NO_MOTION = {"--action-head", "--lora-rank", "--positions", "--chunk", "--actions", "--normalisation"}
"""Of these, what a policy without a motion prior has too."""


def check(request: Request, objective: str) -> None:
    """Refuse what cannot be, with the reason.

    Args:
        objective: of the run that goes on, where the request says none.

    Raises:
        ValueError: what was asked for contradicts itself or the stage, a name is unknown or a number makes no sense.
    """
    variants = request.variants
    objective = (request.options or {}).get("objective", objective)
    if request.threads < 1:
        raise ValueError(f"threads must be at least 1, found {request.threads}")
    if request.normalisation not in (None, *NORMALISATIONS):
        raise ValueError(f"normalisation must be {' or '.join(NORMALISATIONS)}, found {request.normalisation!r}")
    if request.stage == 1:
        _check_motion_stage(request)
    else:
        _check_policy_stage(request, objective)
    if variants.fusion is not None:
        fusion_options(variants.fusion, {})
    if variants.action_head is not None:
        head_options(variants.action_head)
    if variants.backbone is not None:
        backbone_options(variants.backbone)
    check_rank(variants.lora_rank or 0)


def _check_motion_stage(request: Request) -> None:
    if request.variants.motion == "none":
        raise ValueError(
            "stage 1 trains the motion: for a policy without any, begin with lamp-train --stage 2 --motion none"
        )
    if request.motion is not None:
        raise ValueError(
            f"--motion {request.motion} names a run for stage 2 to build on: in stage 1 --motion says 3d or 2d, and "
            "--output "
            "where the run goes"
        )
    for name in request.of_policy():
        raise ValueError(f"{name} belongs to stage 2: stage 1 trains the Motion Expert only")


def _check_policy_stage(request: Request, objective: str) -> None:
    variants, given = request.variants, request.of_policy()
    free = NEED_NO_MOTION | ({"--objective"} if objective == "action" else set())
    needs_motion = [name for name in given if name not in free]
    if variants.motion == "none" and needs_motion:
        raise ValueError(f"{needs_motion[0]} needs a motion, and --motion none leaves it out")
    if request.motion_weights is not None and request.motion is not None:
        raise ValueError("--motion and --motion-weights both say where the Motion Expert comes from: give one of them")
    if request.motion_weights is not None and variants.lora_rank:
        raise ValueError(
            "--lora-rank changes the features that published motion weights were trained on, and their layout has no "
            "room for "
            "adapters: train stage 1 here first, or leave --lora-rank out"
        )
    if objective != "joint":
        for name in ("--motion-weight", "--motion-rate"):
            if name in given:
                raise ValueError(f"{name} is of the joint objective: add --objective joint")
        if (request.options or {}).get("retarget"):
            raise ValueError(
                "--retarget is of the motion that is learnt, and stage 2 learns none: add --objective joint"
            )
