"""Keeps the statistics of features in step with a backbone that learns.

Features are standardised by numbers of the training set, place by place and channel by channel. One step of a learning
backbone can move all features of a place by more than what tells samples apart there, so that with the numbers of
before the first step nothing is learnt. So after each step the means move by what they moved on a few fixed windows,
and now and then both means and deviations are taken anew. The windows are the same on every rank, and what is done
depends on the step alone: neither the ranks nor the micro-batch change a run, and an interrupted one goes on the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float

from lamp_model.data.batch import Batch
from lamp_model.data.loader import Loader
from lamp_model.model import MotionModel
from lamp_model.networks.conditioning import FeatureNorm
from lamp_model.networks.lora import ADAPTERS, BACKBONE_MODULE
from lamp_model.networks.precision import autocast
from lamp_model.training.distributed.ranks import Ranks
from lamp_model.training.distributed.replicas import Replicas
from lamp_model.training.survey import aligned, keep_features, spread, stacked

WATCHED = 8
"""Windows that are encoded after each step: a sixth of the work of a step of 16."""
SURVEYED, EVERY = 128, 50
"""Windows that the statistics are taken of anew, and after how many steps: a twentieth of the work of steps of 16."""


def followed(model: MotionModel, modules: tuple[str, ...]) -> list[FeatureNorm]:
    """The statistics that go stale while these modules learn: none without a backbone among them."""
    if not {ADAPTERS, BACKBONE_MODULE} & set(modules):
        return []
    learning = [part for name, part in model.named_children() if name in modules]
    return [norm for part in learning for norm in part.modules() if isinstance(norm, FeatureNorm)]


class Follower:
    """Moves statistics after a learning backbone. Every rank must call its methods alike."""

    def __init__(self, norms: list[FeatureNorm], replicas: Replicas, loader: Loader, ranks: Ranks):
        """
        Args:
            norms: they are changed in place.
            loader: of the training set.

        Raises:
            CorruptShard, BadSample: a sample cannot be used.
            RankFailed, RankLost: another rank cannot go on.
        """
        self.norms, self.replicas, self.loader, self.ranks = norms, replicas, loader, ranks
        self._watched = self._windows(WATCHED) if norms else []
        self._before: Float[torch.Tensor, "L D"] | None = None

    def begin_step(self) -> None:
        """Before a step that changes the weights."""
        if self.norms and self._before is None:
            self._before, _ = self._means()

    def end_step(self, done: int) -> None:
        """After it.

        Args:
            done: steps of the run until now.
        """
        if not self.norms:
            return
        now, reached = self._means()
        assert self._before is not None, "begin_step comes first"
        if done % EVERY:
            for norm in self.norms:
                count = min(len(norm.mean), len(now))
                moved = torch.where(reached[:, None], now - self._before, 0)[:count]
                norm.mean[:count] += moved
        else:
            self.survey()
        self._before = now
        self._agree()

    def survey(self) -> None:
        """Take the statistics anew."""
        found = stacked([self._encoded(batch) for batch in self._windows(SURVEYED)])
        for norm in self.norms:
            keep_features(norm, *found)
        self._agree()

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Within this the statistics are those of the weights that the model holds now, such as averages of them."""
        kept = [(norm.mean.clone(), norm.std.clone()) for norm in self.norms]
        if self.norms:
            self.survey()
        try:
            yield
        finally:
            for norm, (mean, std) in zip(self.norms, kept, strict=True):
                norm.mean.copy_(mean)
                norm.std.copy_(std)

    def _windows(self, most: int) -> list[Batch]:
        numbers = self.loader.numbers[spread(len(self.loader.numbers), most)]
        return self.ranks.agreed(lambda: list(self.loader.in_order(numbers)), quick=False)

    def _means(self) -> tuple[Float[torch.Tensor, "L D"], Bool[torch.Tensor, " L"]]:
        """Mean features of the watched windows by place, and which places any of them reaches."""
        tokens, mask = stacked([self._encoded(batch) for batch in self._watched])
        return (tokens * mask[..., None]).sum(0) / mask.sum(0).clamp(min=1)[:, None], mask.any(0)

    def _encoded(self, batch: Batch) -> tuple[Float[torch.Tensor, "B L D"], Bool[torch.Tensor, "B L"]]:
        device = self.replicas.module.model.device
        with torch.no_grad(), autocast(device):
            tokens, mask = aligned(self.replicas.module.encode(batch.to(device)))
        return tokens.float(), mask

    def _agree(self) -> None:
        """Rounding may differ between devices."""
        for norm in self.norms:
            for buffer in norm.buffers():
                self.ranks.copy_from_first(buffer)
