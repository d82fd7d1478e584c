"""The model that ranks share: a copy each (DDP) where only experts or adapters learn, one copy between all of them
(FSDP2) where the backbone learns."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from lamp_model.data.batch import Batch
from lamp_model.features import Features
from lamp_model.networks.lora import BACKBONE_MODULE
from lamp_model.training.distributed.ranks import Ranks, lost_ranks
from lamp_model.training.stages import Stage, StepDraws
from lamp_model.training.tally import Tally
from schemas.files import digest_of


class StageLoss(nn.Module):
    """A stage's loss and evaluation as a module, so that libraries can wrap them."""

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

    def evaluate(self, batch: Batch, generator: torch.Generator, last: bool) -> Tally:
        """See ``Stage.evaluate``."""
        return self.stage.evaluate(batch, generator, last)

    def encode(self, batch: Batch) -> Features:
        """The backbone's features of a batch."""
        return self.stage.encode(batch)


class Replicas:
    """Computes losses and gradients; gradients are summed over the ranks once a step.

    Attributes:
        sharded: each rank holds a part of every weight.
    """

    def __init__(self, stage: Stage, ranks: Ranks, modules: tuple[str, ...]):
        """Share a model whose weights are the same on every rank. Sharding replaces its parameters.

        Args:
            modules: names of those that learn.
        """
        self.ranks, self.module = ranks, StageLoss(stage)
        self.wrapped: nn.Module = self.module
        self.sharded = is_sharded(modules, ranks)
        if self.sharded:
            _shard(self.module)
        elif ranks.world > 1:
            self.wrapped = _replicated(self.module, stage.model.device, stage.model.config.padding == "repeat")

    def shares(self, batch: Batch, draws: StepDraws, counts: Mapping[str, int]) -> Float[torch.Tensor, " n"]:
        """See ``StageLoss.forward``."""
        return self.wrapped(batch, draws, counts)

    def backward(self, loss: Float[torch.Tensor, " "]) -> None:
        """Add the gradients of this rank's part of the loss. Both libraries average over the ranks, hence the
        factor."""
        with lost_ranks():
            (loss * self.ranks.world).backward()

    def reshard(self) -> None:
        """Let the next pass gather the weights anew where each rank holds a part: those that a forward pass without a
        backward one gathered are else used again, whatever the parts hold by then."""
        for module in self.module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    @contextlib.contextmanager
    def accumulating(self, last: bool) -> Iterator[None]:
        """Around forward and backward of a micro-batch: only the last one's backward pass sums over the ranks."""
        if isinstance(self.wrapped, FSDPModule):
            self.wrapped.set_requires_gradient_sync(last)
        if isinstance(self.wrapped, DistributedDataParallel) and not last:
            with self.wrapped.no_sync():
                yield
        else:
            yield


def is_sharded(modules: tuple[str, ...], ranks: Ranks) -> bool:
    """Whether each rank holds a part of every weight.

    Args:
        modules: names of those that learn.
    """
    return ranks.world > 1 and BACKBONE_MODULE in modules


def whole(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of which each rank may hold a part, whole. Every rank must call this, with the same names."""
    return {name: whole_tensor(tensor) for name, tensor in tensors.items()}


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """One of them."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def weights_digest(parameters: Mapping[str, torch.Tensor]) -> str:
    """A digest of bits that is the same on every rank: sums of the weights taken as integers, in order of the names."""
    whole_numbers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = [p.detach().view(whole_numbers[p.element_size()]).sum(dtype=torch.int64) for p in parameters.values()]
    return digest_of(torch.stack(sums).tolist())


def divided_like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor that every rank has, divided over the ranks as a parameter of the same shape is."""
    tensor = tensor.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return tensor
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _replicated(module: nn.Module, device: torch.device, some_unused: bool) -> nn.Module:
    """
    Args:
        some_unused: some learning weights may get no gradient: the authors' padding leaves out the learned padding
            tokens where a prompt is long.
    """
    return DistributedDataParallel(
        module,
        device_ids=[device] if device.type == "cuda" else None,
        forward_sync_buffers=False,
        gradient_as_bucket_view=True,
        find_unused_parameters=some_unused,
    )


def _shard(module: StageLoss) -> None:
    """Shard every layer of the language model on its own, and the rest together: vision and experts compute with pieces
    of their blocks, so these are gathered for the whole pass."""
    options: dict[str, Any] = {}
    if module.model.device.type == "cuda":
        # Autocast computes in bfloat16 anyway: gather the weights in it, and sum the gradients in float32.
        options["mp_policy"] = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    language = module.model.qwen_vl_interface.language_model
    done: list[str] = []
    for name, layers in language.named_modules():
        if not isinstance(layers, nn.ModuleList) or name.startswith(tuple(done)):  # lists inside a layer stay with it
            continue
        done.append(f"{name}.")
        for layer in layers:
            fully_shard(layer, **options)
    fully_shard(module)
    for also in ("evaluate", "encode"):
        register_fsdp_forward_method(module, also)
