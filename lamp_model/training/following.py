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
"""Windows that every rank encodes after each step."""
SURVEYED, EVERY = 128, 50
"""Windows that the statistics are taken of anew, and after how many steps."""


def followed(model: MotionModel, modules: tuple[str, ...]) -> list[FeatureNorm]:
    """The statistics that go stale while these modules learn: none without a backbone among them."""
    if not {ADAPTERS, BACKBONE_MODULE} & set(modules):
        return []
    learning = [part for name, part in model.named_children() if name in modules]
    return [norm for part in learning for norm in part.modules() if isinstance(norm, FeatureNorm)]


class Follower:
    """Moves statistics after a learning backbone. Every rank must call its methods alike."""

    def __init__(self, norms: list[FeatureNorm], replicas: Replicas, loader: Loader, ranks: Ranks, micro_batch: int):
        """
        Args:
            norms: they are changed in place.
            loader: of the training set.
            micro_batch: windows that are encoded at once.

        Raises:
            CorruptShard, BadSample: a sample cannot be used.
            RankFailed, RankLost: another rank cannot go on.
        """
        self.norms, self.replicas, self.loader, self.ranks = norms, replicas, loader, ranks
        self.micro_batch = micro_batch
        self._watched = self._windows(WATCHED) if norms else []
        self._before: Float[torch.Tensor, "L D"] | None = None

    def begin_step(self, done: int) -> None:
        """Before a step that changes the weights.

        Args:
            done: steps of the run until now. Before the first, statistics are taken of the windows of later surveys, as
                a Motion Expert from stage 1 has those of other data.
        """
        if not self.norms or self._before is not None:
            return
        if done == 0:
            self.survey()
        self._before = self._means()

    def end_step(self, done: int) -> None:
        """After it. Places of the prompt that no watched window reaches move as the last one that any reaches.

        Args:
            done: steps of the run until now.
        """
        if not self.norms:
            return
        assert self._before is not None, "begin_step comes first"
        now = self._means()
        moved, self._before = now - self._before, now
        if done % EVERY == 0:
            self.survey()
            return
        for norm in self.norms:
            norm.mean += moved[torch.arange(len(norm.mean)).clamp(max=len(moved) - 1)]
        self._agree()

    def survey(self) -> None:
        """Take the statistics anew."""
        tokens, mask = self._encoded(self._windows(SURVEYED))
        for norm in self.norms:
            keep_features(norm, tokens.cpu(), mask.cpu())
        self._agree()

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Within this the statistics are those of the weights that the model holds now, such as averages of them."""
        kept = [(norm.mean.clone(), norm.std.clone()) for norm in self.norms]
        try:
            if self.norms:
                self.survey()
            yield
        finally:
            for norm, (mean, std) in zip(self.norms, kept, strict=True):
                norm.mean.copy_(mean)
                norm.std.copy_(std)

    def _windows(self, most: int) -> list[Batch]:
        numbers = self.loader.numbers[spread(len(self.loader.numbers), most)]
        return self.ranks.agreed(lambda: list(self.loader.in_order(numbers)), quick=False)

    def _means(self) -> Float[torch.Tensor, "L D"]:
        """Mean features of the watched windows by place, up to the end of the longest prompt."""
        tokens, mask = self._encoded(self._watched)
        return (tokens * mask[..., None]).sum(0) / mask.sum(0)[:, None]

    def _encoded(self, windows: list[Batch]) -> tuple[Float[torch.Tensor, "N L D"], Bool[torch.Tensor, "N L"]]:
        """Features at their places in the prompt, in float32."""
        device, found = self.replicas.module.model.device, []
        for batch in windows:
            for first in range(0, batch.size, self.micro_batch):
                rows = batch.rows(first, min(first + self.micro_batch, batch.size)).to(device)
                with torch.no_grad(), autocast(device):
                    tokens, mask = aligned(self.replicas.module.encode(rows))
                found.append((tokens.float(), mask))
        self.replicas.reshard()
        return stacked(found)

    def _agree(self) -> None:
        """Rounding may differ between devices."""
        for norm in self.norms:
            self.ranks.copy_buffers_from_first(norm)
