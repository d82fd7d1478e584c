"""Runs models over frames in batches whose size is reduced when memory runs out."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.errors import BuildError

R = TypeVar("R")


class ShrinkingBatches:
    """Runs a function over slices of a sequence; after an out of memory error, the size of the slices is halved.

    The smaller size is kept for later calls. Threads that share this object run one batch at a time: the model is never
    in two at once, and needs the memory of one.

    Args:
        size: the initial size of the slices.
        remedy: what the user can do when even one item does not fit; the end of the error message.

    Attributes:
        size: the current size of the slices.
    """

    def __init__(self, size: int, remedy: str):
        self.size, self.remedy = size, remedy
        self._turn = threading.Lock()

    def run(self, function: Callable[[Any], R], items: Any) -> Iterator[tuple[int, R]]:
        """The function's results, each with the index of its first item, in order.

        Args:
            function: takes a slice.
            items: a sequence or an array.

        Raises:
            BuildError: one item alone does not fit into memory.
        """
        start = 0
        while start < len(items):
            with self._turn:
                size, result = self.size, self._tried(function, items[start : start + self.size])
            if result is not None:
                yield start, result
                start += size

    def _tried(self, function: Callable[[Any], R], batch: Any) -> R | None:
        """The result for a batch; None if it does not fit into memory, and smaller ones are to be tried.

        Raises:
            BuildError: it is a single item.
        """
        import torch

        try:
            return function(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else "no more is free"
                raise BuildError(
                    f"a single item does not fit into the GPU's memory ({reason}): {self.remedy}"
                ) from error
            self.size = len(batch) // 2
        torch.cuda.empty_cache()  # here and not above: the error keeps its tensors alive
        return None
