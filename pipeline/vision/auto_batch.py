"""Models run over frames in batches that shrink when memory runs out."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.errors import BuildError

R = TypeVar("R")


class ShrinkingBatches:
    """Runs a function over slices of a sequence; after an out of memory error, slices of half the size.

    The smaller size is kept: what did not fit once will not fit the next time.

    Args:
        size: the largest slice.
        remedy: what a person can do when even one item does not fit; ends the sentence that says so.

    Attributes:
        size: the largest slice that is still tried.
    """

    def __init__(self, size: int, remedy: str):
        self.size, self.remedy = size, remedy

    def run(self, function: Callable[[Any], R], items: Any) -> Iterator[tuple[int, R]]:
        """The function's results with the number of the first item of each, in order.

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
                torch.cuda.empty_cache()  # here and not above: while the error lives, so do its tensors
                continue
            yield start, result
            start += self.size
