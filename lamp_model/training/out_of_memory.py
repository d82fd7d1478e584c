"""Errors of too little memory as sentences, and the micro-batch that fits."""

import contextlib
import gc
from collections.abc import Callable, Iterator

import torch

SPARE = 0.05
"""Share of a GPU's memory that stays free when the micro-batch is chosen: prompts differ in length."""
CPU_DEFAULT = 16
"""Largest micro-batch that ``auto`` takes on a CPU, where memory that is short is not noticed in time."""


class OutOfMemory(RuntimeError):
    """The device's memory is too small; the message says for what, and what to lower."""


@contextlib.contextmanager
def enough_memory(device: torch.device, work: str, remedy: str) -> Iterator[None]:
    """Turn the library's error of too little memory into a sentence.

    Args:
        work: what is done in the block.
        remedy: what to lower.

    Raises:
        OutOfMemory: the memory does not suffice.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"the memory of {described(device)} does not suffice for {work}: {remedy}") from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory is too small; on a CPU torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def described(device: torch.device) -> str:
    """A device and its memory, for messages."""
    if device.type != "cuda":
        return f"this machine ({device})"
    return f"{device} ({torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB)"


def fitting(attempt: Callable[[int], None], samples: int, device: torch.device, reserve: int) -> int:
    """The largest micro-batch, halving from all samples, whose forward and backward pass fit.

    Args:
        attempt: does both passes of that many samples.
        samples: of this rank in a step.
        reserve: bytes that the optimiser will need and does not hold yet.

    Raises:
        OutOfMemory: not even one sample fits.
    """
    if device.type != "cuda":
        return min(samples, CPU_DEFAULT)
    room = reserve + int(SPARE * torch.cuda.get_device_properties(device).total_memory)

    def with_reserve(count: int) -> None:
        held = torch.empty(room, dtype=torch.uint8, device=device)
        attempt(count)
        torch.cuda.synchronize(device)
        del held

    try:
        return halved(with_reserve, samples, torch.cuda.empty_cache)
    except torch.OutOfMemoryError:
        raise OutOfMemory(
            f"the memory of {described(device)} does not hold the gradients, the optimiser's state "
            f"({reserve / 2**30:.1f} GiB) and the passes of one sample: add --checkpoint-activations, or take a "
            "smaller model or a larger GPU"
        ) from None


def halved(attempt: Callable[[int], None], samples: int, between: Callable[[], None]) -> int:
    """The first number, halving from all samples, for which the memory suffices.

    Args:
        between: called after each attempt.

    Raises:
        torch.OutOfMemoryError: it does not suffice for one sample.
    """
    while True:
        try:
            attempt(samples)
            return samples
        except torch.OutOfMemoryError:
            if samples == 1:
                raise
            samples = -(-samples // 2)
        finally:
            gc.collect()
            between()
