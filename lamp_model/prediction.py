"""Predictions for a batch of observations: the rows of a batch do not influence each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8

from lamp_model.data.normalisation import Normaliser
from lamp_model.features import Features
from lamp_model.model import PolicyModel
from lamp_model.networks import motion_layout
from lamp_model.networks.precision import autocast

MotionWanted = Literal["none", "first-step", "whole"]
"""Whether the motion is returned too: after the first Euler step, as the authors' server returns it, or after all."""


class NotFinite(ValueError):
    """The network's output holds NaN or infinity; no action is returned."""


@dataclass(frozen=True)
class Seen:
    """An observation as the networks take it, on the CPU.

    Attributes:
        images: for each camera, in the networks' orientation.
        state: normalised and padded to the width of the widest robot.
    """

    images: tuple[UInt8[torch.Tensor, "_ _ 3"], ...]
    instruction: str
    state: Float[torch.Tensor, "1 S"]

    @property
    def sizes(self) -> tuple[torch.Size, ...]:
        """Sizes of the images; only observations of equal sizes go through the backbone together."""
        return tuple(image.shape for image in self.images)


@dataclass(frozen=True)
class Noise:
    """Where the generation of motion and actions begins, on the CPU; None where the model needs none.

    It is drawn on the CPU, so that a seed gives the same noise on every device.
    """

    motion: Float[torch.Tensor, "B F C G G"] | None
    action: Float[torch.Tensor, "B H A"] | None

    @staticmethod
    def draw(model: PolicyModel, rows: int, generator: torch.Generator) -> "Noise":
        """Noise for a batch: of the motion first, then of the actions, as the authors' evaluation draws it."""
        motion = model.motion_noise(rows, generator)
        return Noise(motion, model.action_noise(rows, generator))

    @staticmethod
    def joined(noises: Sequence["Noise"]) -> "Noise":
        """The noise of several batches of one model as one batch."""
        motions = [noise.motion for noise in noises if noise.motion is not None]
        actions = [noise.action for noise in noises if noise.action is not None]
        return Noise(torch.cat(motions) if motions else None, torch.cat(actions) if actions else None)

    def to(self, device: torch.device) -> "Noise":
        """The same numbers on a device."""
        return Noise(*(None if noise is None else noise.to(device) for noise in (self.motion, self.action)))

    def rows(self, chosen: Sequence[int]) -> "Noise":
        """Some rows of the batch."""
        return Noise(*(None if noise is None else noise[list(chosen)] for noise in (self.motion, self.action)))


@dataclass(frozen=True)
class Prediction:
    """What a policy answers to one observation.

    Attributes:
        actions: in the convention of the training data.
        normalised: the network's own output, about -1 to 1.
        motion: increments (du, dv, dz) of the keypoint grid at each step, in the upright image; None if unwanted.
    """

    actions: Float[torch.Tensor, "H A"]
    normalised: Float[torch.Tensor, "H A"]
    motion: Float[torch.Tensor, "K T 3"] | None = None


@torch.inference_mode()
def predict(
    model: PolicyModel,
    action_range: Normaliser,
    seen: Sequence[Seen],
    noise: Noise,
    wanted: Sequence[MotionWanted],
) -> list[Prediction | NotFinite]:
    """Predict for a batch in one forward pass.

    Args:
        seen: observations with images of the same sizes.
        noise: of as many rows.
        wanted: for each row, which motion to return.

    Returns:
        For each row its prediction, or the error for a row whose numbers are not finite.
    """
    device = model.device
    pictures = [torch.stack(camera).to(device) for camera in zip(*(row.images for row in seen), strict=True)]
    states = torch.cat([row.state for row in seen]).to(device)
    there = noise.to(device)
    with autocast(device):
        features = model.encode(pictures, [row.instruction for row in seen])
        guided = model.guided_features(features, there.motion)
        actions = model.act(guided, states, there.action).float()[..., : action_range.size].cpu()
        motions = _motions(model, features, there, wanted)
    rows: list[Prediction | NotFinite] = []
    for number, chunk in enumerate(actions):
        motion = motions.get(number)
        wrong = _not_finite(chunk, "actions") or (None if motion is None else _not_finite(motion, "motion"))
        # Checked before denormalising, which clips: infinity would become the maximum action.
        rows.append(wrong or Prediction(action_range.denormalise(chunk), chunk, motion))
    return rows


def _motions(
    model: PolicyModel, features: Features, noise: Noise, wanted: Sequence[MotionWanted]
) -> dict[int, torch.Tensor]:
    """The motions of the rows that want one, in the upright image and on the CPU."""
    found: dict[int, torch.Tensor] = {}
    for kind in ("first-step", "whole"):
        rows = [number for number, one in enumerate(wanted) if one == kind]
        if not rows or noise.motion is None:
            continue
        mask = None if features.mask is None else features.mask[rows]
        steps = 1 if kind == "first-step" else None
        motion = model.motion_head.rollout(Features(features.tokens[rows], mask), noise.motion[rows], steps)
        motion = motion_layout.denormalise(motion.float().cpu())
        found.update(zip(rows, motion_layout.upright(motion, model.config.flips), strict=True))
    return found


def _not_finite(values: torch.Tensor, what: str) -> NotFinite | None:
    wrong = int((~values.isfinite()).sum())
    if not wrong:
        return None
    return NotFinite(
        f"{wrong} of {values.numel()} numbers of the {what} came out as NaN or infinity, and none was returned: "
        "the policy's weights are damaged, or the state lies far outside the training data"
    )
