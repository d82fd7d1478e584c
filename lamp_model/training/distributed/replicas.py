"""The model that ranks share: one copy each (DDP), or one copy between them (FSDP2)."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lamp_model.data.batch import Batch
from lamp_model.training.distributed.ranks import Ranks, lost_ranks
from lamp_model.training.stages import Stage, StepDraws


class StageLoss(nn.Module):
    """A stage's loss as a module, so that libraries can wrap its forward pass."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.stage = stage
        self.model = stage.model

    def forward(self, batch: Batch, draws: StepDraws, counts: Mapping[str, int]) -> Float[torch.Tensor, " n"]:
        """What these samples contribute to the terms of the loss of the global batch, in the order of ``counts``.

        Args:
            draws: for these samples.
            counts: number of valid entries behind each term in the global batch.
        """
        losses = self.stage.losses(batch, draws)
        return torch.stack([losses[name].share(count) for name, count in counts.items()])


class Replicas:
    """Computes losses and gradients; gradients are summed over the ranks once a step."""

    def __init__(self, stage: Stage, ranks: Ranks):
        self.ranks, self.module = ranks, StageLoss(stage)
        self.wrapped: nn.Module = self.module
        if ranks.world > 1:
            device = stage.model.device
            self.wrapped = DistributedDataParallel(
                self.module,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                # The authors' padding leaves out the learned padding tokens where a prompt is long.
                find_unused_parameters=stage.model.config.padding == "repeat",
            )

    def shares(self, batch: Batch, draws: StepDraws, counts: Mapping[str, int]) -> Float[torch.Tensor, " n"]:
        """See ``StageLoss.forward``."""
        return self.wrapped(batch, draws, counts)

    def backward(self, loss: Float[torch.Tensor, " "]) -> None:
        """Add the gradients of this rank's part of the loss; they are averaged over the ranks, hence the factor."""
        with lost_ranks():
            (loss * self.ranks.world).backward()

    @contextlib.contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        """Around forward and backward of a micro-batch: only the last one's backward pass sums over the ranks."""
        if last or not isinstance(self.wrapped, DistributedDataParallel):
            yield
            return
        with self.wrapped.no_sync():
            yield
