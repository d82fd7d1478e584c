"""Random numbers in training are a pure function of (seed, purpose, step), so a resumed run draws the same numbers."""

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """The purpose of a random stream; each has its own number, so that streams differ."""

    WEIGHTS = 0
    NOISE = 1
    DROPOUT = 2
    VALIDATION = 3
    HEAD_WEIGHTS = 4


def stream_seed(seed: int, purpose: Purpose, step: int = 0) -> int:
    """A seed of 63 bits."""
    return int(np.random.SeedSequence([seed, int(purpose), step]).generate_state(1, np.uint64)[0] >> 1)


def generator(device: torch.device, seed: int, purpose: Purpose, step: int = 0) -> torch.Generator:
    """A generator on the device where its numbers are needed."""
    return torch.Generator(device).manual_seed(stream_seed(seed, purpose, step))


def seed_dropout(seed: int, step: int, place: int) -> None:
    """Set torch's own state, from which dropout draws.

    Args:
        place: in the global batch, of the first sample that is passed through the model.
    """
    where = stream_seed(seed, Purpose.DROPOUT, step)
    torch.manual_seed(where if place == 0 else stream_seed(where, Purpose.DROPOUT, place))
