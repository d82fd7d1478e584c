"""The learning rate of a step."""

import math

from lamp_model.config import TrainingConfig


class Schedule:
    """The learning rate as a pure function of the step.

    In the first ``warmup`` steps it rises in a line: step s has (s + 1) / (warmup + 1) of the highest rate, so that no
    step has a rate of 0 and the first step after the warm-up has all of it. Then, by ``schedule``:

    * ``cosine``: half a cosine from the highest rate to ``minimum_rate`` at the last step;
    * ``constant``: the highest rate to the end;
    * ``wsd`` (warm-up, stable, decay; arXiv 2404.06395): the highest rate, then in the last ``decay`` of all steps a
      line to ``minimum_rate`` at the last step.
    """

    def __init__(self, config: TrainingConfig):
        self.config = config

    def __call__(self, step: int) -> float:
        """Rate of step 0..steps - 1."""
        c = self.config
        if step < c.warmup:
            return c.learning_rate * (step + 1) / (c.warmup + 1)
        if c.schedule == "constant":
            return c.learning_rate
        last = c.steps - 1
        first = c.warmup if c.schedule == "cosine" else max(c.warmup, last - round(c.decay * c.steps))
        done = min(max(step - first, 0) / max(last - first, 1), 1.0)
        share = 0.5 * (1 + math.cos(done * math.pi)) if c.schedule == "cosine" else 1 - done
        return c.minimum_rate + (c.learning_rate - c.minimum_rate) * share
