"""Turns errors of libraries into short messages for users."""

LONGEST = 300
"""Maximum length, in characters, of a library's message that is shown."""


def first_line(error: BaseException, longest: int | None = None) -> str:
    """The first line of an error's message; the name of its type where it has none.

    Args:
        longest: maximum number of characters; None for the whole line.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:longest]


class MissingDependency(ValueError):
    """A package, or a model's weights, that the work needs is missing; the message says which, and what to do."""


class MissingWeights(MissingDependency):
    """A model's weights cannot be loaded."""


class StoreFailed(Exception):
    """An object store, or the cache of its files, did not do what was asked, after several tries.

    It is no ``OSError``: a reader takes that for a damaged file and leaves the episode out, but here the episode is not
    to blame. The message is a sentence for the user.
    """
