"""Errors of libraries, on their way into a sentence for a person."""

LONGEST = 300
"""Letters that are worth showing of a library that talks much."""


def first_line(error: BaseException, longest: int | None = None) -> str:
    """What an error says first; some say nothing, and are called by their name.

    Args:
        longest: letters at most; None for all of the line.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:longest]


class MissingDependency(ValueError):
    """A package, or a model's weights, that the work needs is not there; one sentence says which and what to do."""


class MissingWeights(MissingDependency):
    """A model's weights cannot be loaded."""
