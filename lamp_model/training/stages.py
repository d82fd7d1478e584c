"""Losses and metrics of the two stages, which share one training loop."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from lamp_model.data.batch import Batch
from lamp_model.data.embodiments import Embodiments
from lamp_model.features import Features
from lamp_model.model import MotionModel, PolicyModel
from lamp_model.networks import motion_layout
from lamp_model.networks.loss_term import Draws, LossTerm
from lamp_model.networks.motion_loss import PUBLISHED_WEIGHTS, LossWeights, valid_entries
from lamp_model.training.rollout_error import RolloutErrors
from lamp_model.training.tally import Tally

ROLLOUTS = 8
"""Number of rollouts of each held-out window at the end of a run of stage 1."""
LOSS = "loss of "
"""Prefix of the terms of the loss in a tally."""
Encode = Callable[[Batch], Features]
Losses = dict[str, LossTerm]
"""Terms of a loss by name; the weighted sum of their means is minimised."""
StepDraws = dict[str, Draws]
"""All random numbers of a batch but dropout's, by what they are for."""


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

    def draw(self, batch: int, generator: torch.Generator) -> StepDraws:
        """Random numbers for the losses of a batch. Each sample's own are at its place in the batch."""
        ...

    def counts(self, batch: Batch) -> dict[str, int]:
        """Number of valid entries behind each term of ``losses``, from the masks alone."""
        ...

    def losses(self, batch: Batch, draws: StepDraws) -> Losses:
        """The terms of a batch's loss on the model's device."""
        ...

    def evaluate(self, batch: Batch, generator: torch.Generator, last: bool = False) -> Tally:
        """The terms of a held-out batch's loss, and the errors of the model's predictions. The batch is encoded once.

        Args:
            last: this is the last validation of the run; slower metrics are computed too.
        """
        ...

    def metrics(self, tally: Tally) -> dict[str, float]:
        """``val_loss`` and the other metrics of all held-out batches, from their merged tallies."""
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

    def draw(self, batch: int, generator: torch.Generator) -> StepDraws:
        """See ``MotionExpert.draw``."""
        return {"motion": self.model.motion_head.draw(batch, generator)}

    def counts(self, batch: Batch) -> dict[str, int]:
        """See ``valid_entries``."""
        return _motion_counts(self.model, batch, self.weights)

    def losses(self, batch: Batch, draws: StepDraws) -> Losses:
        """See ``MotionExpert.loss``."""
        return self._losses(self.encode(batch), batch, draws)

    def evaluate(self, batch: Batch, generator: torch.Generator, last: bool = False) -> Tally:
        """Measure a whole rollout and the estimate of its first evaluation against the ground truth; in the last
        validation run ``ROLLOUTS`` rollouts, for their mean and the best of them."""
        features = self.encode(batch)
        losses = self._losses(features, batch, self.draw(batch.size, generator))
        head, samples, errors = self.model.motion_head, [], RolloutErrors()
        for _ in range(ROLLOUTS if last else 1):
            noise = torch.randn(head.noise_shape(batch.size), generator=generator, device=generator.device)
            if not samples:
                first = _increments(head.first_estimate(features, noise))
            samples.append(_increments(head.rollout(features, noise)))
        for place, scene in enumerate(batch.scenes):
            errors.add(samples[0][place], scene)
            errors.add(first[place], scene, "first")
            if last:
                errors.add_samples([sample[place] for sample in samples], scene)
        return _with_losses(errors.tally, losses)

    def metrics(self, tally: Tally) -> dict[str, float]:
        """See ``RolloutErrors``; also holds the baselines."""
        return {**_loss_and_means(tally, {"path": self.weights.path}), **self.baselines}

    def _losses(self, features: Features, batch: Batch, draws: StepDraws) -> Losses:
        return self.model.motion_head.loss(features, batch.motion, batch.motion_mask, draws["motion"], self.weights)


def _increments(motion: torch.Tensor) -> np.ndarray:
    return motion_layout.denormalise(motion.float()).cpu().numpy()


def _motion_counts(model: MotionModel, batch: Batch, weights: LossWeights) -> dict[str, int]:
    counts = valid_entries(batch.motion_mask, model.config.motion.depth)
    return counts if weights.path else {"motion": counts["motion"]}


def _with_losses(tally: Tally, losses: Losses) -> Tally:
    for name, term in losses.items():
        tally.add(f"{LOSS}{name}", float(term.total), int(term.count))
    return tally


def _loss_and_means(tally: Tally, weights: Mapping[str, float]) -> dict[str, float]:
    """``val_loss``, the weighted sum of the terms' means over all samples, and the other means.

    Args:
        weights: of the terms, by name; 1 where there is none.
    """
    means = tally.means()
    terms = {name.removeprefix(LOSS): mean for name, mean in means.items() if name.startswith(LOSS)}
    loss = sum(weights.get(name, 1.0) * mean for name, mean in terms.items())
    return {"val_loss": loss, **{name: mean for name, mean in means.items() if not name.startswith(LOSS)}}


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

    def draw(self, batch: int, generator: torch.Generator) -> StepDraws:
        """The action head's numbers, noise of the guidance and, for the joint objective, the Motion Expert's numbers.

        The action head's come first, so that policies with and without guidance train on the same.
        """
        draws: StepDraws = {"action": self.model.action_model.draw(batch, generator)}
        guidance = self.model.motion_noise(batch, generator)
        if guidance is not None:
            draws["guidance"] = {"noise": guidance}
        if self.motion_weight:
            draws["motion"] = self.model.motion_head.draw(batch, generator)
        return draws

    def counts(self, batch: Batch) -> dict[str, int]:
        """Action values within the episode; for the joint objective also those of the motion."""
        counts = {"action": int(self.embodiments.mask(batch.action_mask, batch.embodiment).sum())}
        return counts | (_motion_counts(self.model, batch, self.weights) if self.motion_weight else {})

    def losses(self, batch: Batch, draws: StepDraws) -> Losses:
        """The action loss over actions within the episode; for the joint objective also the weighted motion loss."""
        return self._losses(self.encode(batch), batch, draws)

    def evaluate(self, batch: Batch, generator: torch.Generator, last: bool = False) -> Tally:
        """Predict whole chunks as at inference and compare them with the recorded actions, both normalised."""
        features = self.encode(batch)
        noise = self.model.action_noise(batch.size, generator)
        losses = self._losses(features, batch, self.draw(batch.size, generator))
        chunk = self.predict(features, batch, noise, self.model.motion_noise(batch.size, generator))
        data = self.embodiments.actions(batch.actions, batch.embodiment)
        mask = self.embodiments.mask(batch.action_mask, batch.embodiment)
        mean = self.embodiments.mean_actions(batch.embodiment)[:, None].expand_as(data)
        tally = Tally()
        for name, guess in (("action_error", chunk), ("mean_action_error", mean)):
            tally.add(name, float((guess - data).abs()[mask].sum()), int(mask.sum()))
        return _with_losses(tally, losses)

    def predict(
        self,
        features: Features,
        batch: Batch,
        noise: Float[torch.Tensor, "B H A"] | None,
        motion_noise: Float[torch.Tensor, "B F C G G"] | None,
    ) -> Float[torch.Tensor, "B H A"]:
        """Whole normalised chunks, as at inference, within the range of the data."""
        guided = self.model.guided_features(features, motion_noise)
        state = self.embodiments.states(batch.state, batch.embodiment)
        return self.model.act(guided, state, noise).float().clamp(-1, 1)

    def metrics(self, tally: Tally) -> dict[str, float]:
        """``action_error``: mean absolute error of normalised actions; ``mean_action_error``: that of always predicting
        the mean action.
        """
        joint = self.motion_weight
        return _loss_and_means(tally, {"motion": joint, "path": joint * self.weights.path})

    def _losses(self, features: Features, batch: Batch, draws: StepDraws) -> Losses:
        noise = draws["guidance"]["noise"] if "guidance" in draws else None
        guided = self.model.guided_features(features, noise)
        actions = self.embodiments.actions(batch.actions, batch.embodiment)
        state = self.embodiments.states(batch.state, batch.embodiment)
        mask = self.embodiments.mask(batch.action_mask, batch.embodiment)
        # With repeated padding this follows the authors' code, in which padded actions are attended to.
        present = batch.action_mask if self.model.config.padding == "masked" else None
        losses = {"action": self.model.action_model.loss(guided, state, actions, mask, draws["action"], present)}
        if self.motion_weight:
            head = self.model.motion_head
            motion = head.loss(features, batch.motion, batch.motion_mask, draws["motion"], self.weights)
            losses |= {name: term.weighted(self.motion_weight) for name, term in motion.items()}
        return losses
