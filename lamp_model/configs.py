"""What the sizes of networks have in common."""

from collections.abc import Iterable

MOST_LAYERS, LARGEST = 1_000, 65_536
"""Far above any model; a size beyond them is a mistake that would take all memory or all time."""


def check_sizes(config: object, sizes: Iterable[str], counts: Iterable[str]) -> None:
    """Hold fields of a config to what a network can have: sizes to 1..65,536, counts of layers and steps to 1..1,000.

    Raises:
        ValueError: one is not.
    """
    for names, most in ((sizes, LARGEST), (counts, MOST_LAYERS)):
        for name in names:
            value = getattr(config, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} must lie between 1 and {most}, found {value}")


def check_dropout(dropout: float) -> None:
    """Refuse what is no probability of being dropped, or drops everything.

    Raises:
        ValueError: it is one.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, found {dropout}")
