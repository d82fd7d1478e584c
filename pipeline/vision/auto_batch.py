"""Runs models over frames in batches whose size is reduced when memory runs out."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.errors import BuildError

R = TypeVar("R")


class ShrinkingBatches:
    """Runs a function over slices of a sequence; after an out of memory error, the size of the slices is halved.

    The smaller size is kept for later calls.

    Args:
        size: the initial size of the slices.
        remedy: what the user can do when even one item does not fit; the end of the error message.

    Attributes:
        size: the current size of the slices.
    """

    def __init__(self, size: int, remedy: str):
        self.size, self.remedy = size, remedy

    def run(self, function: Callable[[Any], R], items: Any) -> Iterator[tuple[int, R]]:
        """The function's results, each with the index of its first item, in order.

        Args:
            function: takes a slice.
            items: a sequence or an array.

        Raises:
            BuildError: one item alone does not fit into memory.
        """
        import torch

        start = 0
        while start < len(items):
            try:
                result = function(items[start : start + self.size])
            except torch.OutOfMemoryError as error:
                tried = min(self.size, len(items) - start)
                if tried == 1:
                    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no more is free"
                    raise BuildError(
                        f"a single item does not fit into the GPU's memory ({reason}): {self.remedy}"
                    ) from error
                self.size = tried // 2
                result = None
            if result is None:
                torch.cuda.empty_cache()  # here and not above: the error keeps its tensors alive
                continue
            yield start, result
            start += self.size
