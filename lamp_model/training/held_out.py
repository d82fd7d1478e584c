"""Validation: the held-out batches, shared among the ranks."""

from collections.abc import Callable
from typing import Any

import torch

from lamp_model.data.loader import Loader
from lamp_model.networks.precision import autocast
from lamp_model.training.distributed.ranks import Ranks
from lamp_model.training.distributed.replicas import Replicas
from lamp_model.training.rng import Purpose, generator
from lamp_model.training.tally import Tally, merged


@torch.no_grad()
def evaluated(
    replicas: Replicas, loader: Loader, ranks: Ranks, seed: int, last: bool, between: Callable[[], None]
) -> Tally:
    """The tallies of all held-out batches, added in the order of the batches, so that they do not depend on the number
    of ranks. Noise depends on the batch's number alone.

    Args:
        last: this is the last validation of the run.
        between: called after each round of batches, on every rank.

    Raises:
        CorruptShard, BadSample: a sample cannot be used.
        RankFailed, RankLost: another rank cannot go on.
    """
    count = -(-len(loader.numbers) // loader.batch_size)
    found: list[dict[str, Any] | None] = []

    def one(index: int) -> dict[str, Any] | None:
        # A rank that has no batch left must still take part where the weights are sharded.
        if index >= count and not replicas.sharded:
            return None
        batch = loader.batch_in_order(min(index, count - 1)).to(replicas.module.model.device)
        chance = generator(replicas.module.model.device, seed, Purpose.VALIDATION, index)
        with autocast(replicas.module.model.device):
            tally = replicas.module.evaluate(batch, chance, last).as_json()
        return tally if index < count else None

    for first in range(0, count, ranks.world):
        found.append(ranks.agreed(lambda first=first: one(first + ranks.rank)))
        between()
    rounds = zip(*ranks.gather(found), strict=True)
    return merged(tally for tallies in rounds for tally in tallies if tally is not None)
