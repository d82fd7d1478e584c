"""What the two stages learn and how they are judged; the loop is theirs in common."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float

from lamp_model.data.batch import Batch
from lamp_model.data.embodiments import Embodiments
from lamp_model.features import Features
from lamp_model.model import MotionModel, PolicyModel
from lamp_model.networks import motion_layout
from lamp_model.training.rollout_error import RolloutErrors

Losses = dict[str, Float[torch.Tensor, " "]]
"""Terms of a loss by name, weighted: their sum is what is minimised."""


@runtime_checkable
class Stage(Protocol):
    """One stage of training."""

    number: int

    @property
    def model(self) -> MotionModel:
        """The whole model, with what learns and what is frozen."""
        ...

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The terms of a batch's loss on the model's device; the generator decides all noise."""
        ...

    def evaluate(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The terms of a held-out batch's loss, and beside them what the model makes of it, for ``metrics``. The batch
        is encoded once.
        """
        ...

    def metrics(self) -> dict[str, float]:
        """Figures over all batches evaluated since the last metrics."""
        ...


class MotionStage:
    """Stage 1: the Motion Expert learns by conditional flow matching (paper, section 3.2)."""

    number = 1

    def __init__(self, model: MotionModel):
        self.model = model
        self._errors = RolloutErrors()

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """See ``MotionExpert.loss``."""
        return self._losses(self.model.encode(batch.images, batch.instructions), batch, generator)

    def evaluate(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Run the whole motion and measure it against the truth."""
        features = self.model.encode(batch.images, batch.instructions)
        losses = self._losses(features, batch, generator)
        shape = self.model.motion_head.noise_shape(batch.size)
        noise = torch.randn(shape, generator=generator, device=generator.device)
        motion = motion_layout.denormalise(self.model.motion_head.rollout(features, noise).float()).cpu().numpy()
        for increments, scene in zip(motion, batch.scenes, strict=True):
            self._errors.add(increments, scene)
        return losses

    def metrics(self) -> dict[str, float]:
        """See ``RolloutErrors.means``."""
        means, self._errors = self._errors.means(), RolloutErrors()
        return means

    def _losses(self, features: Features, batch: Batch, generator: torch.Generator) -> Losses:
        return {"motion": self.model.motion_head.loss(features, batch.motion, batch.motion_mask, generator)}


class PolicyStage:
    """Stage 2: Motion Guidance and the Action Expert learn; backbone and Motion Expert are frozen (paper, section 3.4).

    With ``motion_weight`` the objective is joint: the Motion Expert learns on, by its own loss only; guidance passes it
    no gradient.
    """

    number = 2

    def __init__(self, model: PolicyModel, embodiments: Embodiments, motion_weight: float = 0.0):
        self.model, self.embodiments, self.motion_weight = model, embodiments, motion_weight
        self._errors, self._count = [0.0, 0.0], 0

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The action head's, over actions that the episode has; when joint, the weighted motion loss beside it."""
        return self._losses(self.model.encode(batch.images, batch.instructions), batch, generator)

    def evaluate(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Predict whole chunks as at inference and compare them with the recorded actions, both normalised."""
        features = self.model.encode(batch.images, batch.instructions)
        losses = self._losses(features, batch, generator)
        guided = self.model.guided_features(features, self.model.motion_noise(batch.size, generator))
        data = self.embodiments.actions(batch.actions, batch.embodiment)
        noise = self.model.action_noise(batch.size, generator)
        state = self.embodiments.states(batch.state, batch.embodiment)
        chunk = self.model.act(guided, state, noise).float().clamp(-1, 1)
        mask = self.embodiments.mask(batch.action_mask, batch.embodiment)
        mean = self.embodiments.mean_actions(batch.embodiment)[:, None].expand_as(data)
        for index, guess in enumerate((chunk, mean)):
            self._errors[index] += float((guess - data).abs()[mask].sum())
        self._count += int(mask.sum())
        return losses

    def metrics(self) -> dict[str, float]:
        """``action_error``: mean absolute error of normalised actions; ``mean_action_error``: that of always the mean
        action.
        """
        means = [error / max(self._count, 1) for error in self._errors]
        self._errors, self._count = [0.0, 0.0], 0
        return {"action_error": means[0], "mean_action_error": means[1]}

    def _losses(self, features: Features, batch: Batch, generator: torch.Generator) -> Losses:
        guided = self.model.guided_features(features, self.model.motion_noise(batch.size, generator))
        actions = self.embodiments.actions(batch.actions, batch.embodiment)
        state = self.embodiments.states(batch.state, batch.embodiment)
        mask = self.embodiments.mask(batch.action_mask, batch.embodiment)
        # With padding repeated, all is as in the authors' code, which lets padded actions be attended to.
        present = batch.action_mask if self.model.config.padding == "masked" else None
        losses = {"action": self.model.action_model.loss(guided, state, actions, mask, generator, present)}
        if self.motion_weight:
            motion = self.model.motion_head.loss(features, batch.motion, batch.motion_mask, generator)
            losses["motion"] = self.motion_weight * motion
        return losses
