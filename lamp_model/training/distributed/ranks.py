"""The processes of one run and what they tell each other.

Messages are JSON: nothing that arrives can run. Gradients do not pass through here (``replicas``).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")


class RankFailed(RuntimeError):
    """Another rank could not go on; the message is that rank's.

    Attributes:
        kind: name of that rank's exception.
    """

    def __init__(self, rank: int, kind: str, message: str):
        super().__init__(f"rank {rank}: {message}")
        self.kind = kind


class RankLost(RuntimeError):
    """A rank ended without a word: it was killed, or its node or network failed."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train the same run.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        local: number of this process on its machine.
        patient: the group for steps of the set-up that may take hours on one rank; None: the default group.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    patient: Any = None

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes files and prints."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value (any JSON), in the order of the ranks, on every rank.

        Raises:
            RankLost: a rank ended.
        """
        if self.world == 1:
            return [value]
        mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        with lost_ranks():
            lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
            dist.all_gather(lengths, torch.tensor([len(mine)]), group=self.patient)
            longest = max(int(length) for length in lengths)
            rows = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world)]
            dist.all_gather(rows, torch.nn.functional.pad(mine, (0, longest - len(mine))), group=self.patient)
        return [json.loads(row[: int(length)].numpy().tobytes()) for row, length in zip(rows, lengths, strict=True)]

    def from_first(self, value: Any) -> Any:
        """The value of rank 0 (any JSON) on every rank; the others' is ignored."""
        return self.gather(value if self.first else None)[0]

    def sums(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Sums over all ranks, which have the same names in the same order."""
        if self.world == 1:
            return dict(counts)
        total = torch.tensor(list(counts.values()), dtype=torch.int64)
        with lost_ranks():
            dist.all_reduce(total)
        return dict(zip(counts, total.tolist(), strict=True))

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all ranks, on its device."""
        if self.world > 1:
            with lost_ranks():
                dist.all_reduce(values)
        return values

    def copy_from_first(self, tensor: torch.Tensor) -> None:
        """Overwrite a tensor with that of rank 0, on its device."""
        if self.world > 1:
            with lost_ranks():
                dist.broadcast(tensor, src=0)

    def copy_buffers_from_first(self, module: nn.Module) -> None:
        """Overwrite the buffers of a module and of its parts with those of rank 0."""
        for buffer in module.buffers():
            self.copy_from_first(buffer)

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank."""
        return flag if self.world == 1 else self.sums({"": int(flag)})[""] > 0

    def agreed(self, work: Callable[[], T], quick: bool = True) -> T:
        """Do something that may fail on some ranks; then all of them fail. ``work`` has no messages of its own.

        Args:
            quick: ``work`` takes minutes at most.

        Raises:
            Exception: this rank's own error.
            RankFailed: another rank's.
            RankLost: a rank ended.
        """
        if self.world == 1:
            return work()
        failure: Exception | None = None
        result: Any = None
        try:
            result = work()
        except Exception as error:
            failure = error
        if quick and not self.any(failure is not None):
            return result
        said = self.gather(None if failure is None else [type(failure).__name__, str(failure)])
        if failure is not None:
            raise failure
        for rank, told in enumerate(said):
            if told is not None:
                raise RankFailed(rank, *told)
        return result


ALONE = Ranks()
"""The only process of a run."""


class lost_ranks:
    """Turns the network's errors into ``RankLost``."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if isinstance(error, RuntimeError) and not isinstance(error, RankLost | RankFailed) and _of_network(error):
            raise RankLost(
                "a rank ended without a word, so it was killed or its node or network failed; the newest complete "
                "checkpoint stands"
            ) from error


def _of_network(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "nccl", "connection"))
