"""Losses and metrics of the two stages, which share one training loop."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from lamp_model.data.batch import Batch
from lamp_model.data.embodiments import Embodiments
from lamp_model.features import Features
from lamp_model.model import MotionModel, PolicyModel
from lamp_model.networks import motion_layout
from lamp_model.networks.motion_loss import PUBLISHED_WEIGHTS, LossWeights
from lamp_model.training.rollout_error import RolloutErrors

ROLLOUTS = 8
"""Number of rollouts of each held-out window at the end of a run of stage 1."""
Encode = Callable[[Batch], Features]
Losses = dict[str, Float[torch.Tensor, " "]]
"""Weighted terms of a loss by name; their sum is minimised."""


@runtime_checkable
class Stage(Protocol):
    """One stage of training.

    Attributes:
        encode: returns the backbone's features of a batch; may be replaced by a cached encoder.
    """

    number: int
    encode: "Encode"

    @property
    def model(self) -> MotionModel:
        """The whole model, with trained and frozen modules."""
        ...

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The terms of a batch's loss on the model's device; all noise comes from the generator."""
        ...

    def evaluate(self, batch: Batch, generator: torch.Generator, last: bool = False) -> Losses:
        """The terms of a held-out batch's loss. Also records the model's predictions for ``metrics``. The batch is
        encoded once.

        Args:
            last: this is the last validation of the run; slower metrics are computed too.
        """
        ...

    def metrics(self) -> dict[str, float]:
        """Metrics over all batches evaluated since the last call."""
        ...


class MotionStage:
    """Stage 1: the Motion Expert learns by conditional flow matching (paper, section 3.2).

    Attributes:
        encode: the backbone's features of a batch.
        baselines: metrics of baselines by name, added to the metrics of every validation.
    """

    number = 1

    def __init__(self, model: MotionModel, weights: LossWeights = PUBLISHED_WEIGHTS):
        self.model, self.weights = model, weights
        self.encode: Encode = lambda batch: model.encode(batch.images, batch.instructions)
        self.baselines: dict[str, float] = {}
        self._errors = RolloutErrors()

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """See ``MotionExpert.loss``."""
        return self._losses(self.encode(batch), batch, generator)

    def evaluate(self, batch: Batch, generator: torch.Generator, last: bool = False) -> Losses:
        """Measure a whole rollout and the estimate of its first evaluation against the ground truth; in the last
        validation run ``ROLLOUTS`` rollouts, for their mean and the best of them."""
        features = self.encode(batch)
        losses = self._losses(features, batch, generator)
        head, samples = self.model.motion_head, []
        for _ in range(ROLLOUTS if last else 1):
            noise = torch.randn(head.noise_shape(batch.size), generator=generator, device=generator.device)
            if not samples:
                first = _increments(head.first_estimate(features, noise))
            samples.append(_increments(head.rollout(features, noise)))
        for place, scene in enumerate(batch.scenes):
            self._errors.add(samples[0][place], scene)
            self._errors.add(first[place], scene, "first")
            if last:
                self._errors.add_samples([sample[place] for sample in samples], scene)
        return losses

    def metrics(self) -> dict[str, float]:
        """See ``RolloutErrors``; also holds the baselines."""
        means, self._errors = self._errors.means(), RolloutErrors()
        return {**means, **self.baselines}

    def _losses(self, features: Features, batch: Batch, generator: torch.Generator) -> Losses:
        head = self.model.motion_head
        return {"motion": head.loss(features, batch.motion, batch.motion_mask, generator, self.weights)}


def _increments(motion: torch.Tensor) -> np.ndarray:
    return motion_layout.denormalise(motion.float()).cpu().numpy()


class PolicyStage:
    """Stage 2: Motion Guidance and the Action Expert learn; backbone and Motion Expert are frozen (paper, section 3.4).

    With ``motion_weight`` the objective is joint: the Motion Expert is trained on with its own loss only; it gets no
    gradient through the guidance.
    """

    number = 2

    def __init__(
        self,
        model: PolicyModel,
        embodiments: Embodiments,
        motion_weight: float = 0.0,
        weights: LossWeights = PUBLISHED_WEIGHTS,
    ):
        self.model, self.embodiments, self.motion_weight, self.weights = model, embodiments, motion_weight, weights
        self.encode: Encode = lambda batch: model.encode(batch.images, batch.instructions)
        self._errors, self._count = [0.0, 0.0], 0

    def losses(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The action loss over actions within the episode; for the joint objective also the weighted motion loss."""
        return self._losses(self.encode(batch), batch, generator)

    def evaluate(self, batch: Batch, generator: torch.Generator, last: bool = False) -> Losses:
        """Predict whole chunks as at inference and compare them with the recorded actions, both normalised."""
        features = self.encode(batch)
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
        """``action_error``: mean absolute error of normalised actions; ``mean_action_error``: that of always predicting
        the mean action.
        """
        means = [error / max(self._count, 1) for error in self._errors]
        self._errors, self._count = [0.0, 0.0], 0
        return {"action_error": means[0], "mean_action_error": means[1]}

    def _losses(self, features: Features, batch: Batch, generator: torch.Generator) -> Losses:
        guided = self.model.guided_features(features, self.model.motion_noise(batch.size, generator))
        actions = self.embodiments.actions(batch.actions, batch.embodiment)
        state = self.embodiments.states(batch.state, batch.embodiment)
        mask = self.embodiments.mask(batch.action_mask, batch.embodiment)
        # With repeated padding this follows the authors' code, in which padded actions are attended to.
        present = batch.action_mask if self.model.config.padding == "masked" else None
        losses = {"action": self.model.action_model.loss(guided, state, actions, mask, generator, present)}
        if self.motion_weight:
            head = self.model.motion_head
            motion = head.loss(features, batch.motion, batch.motion_mask, generator, self.weights)
            losses["motion"] = self.motion_weight * motion
        return losses
