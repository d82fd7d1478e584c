"""Readers: one module for each dataset (see ``schemas.plugins``).

A reader module defines ``Config``, ``INFO`` (a ``DatasetInfo``) and ``build(config)``, which gives a ``Reader``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from schemas.episode import Episode, EpisodeRef
from schemas.plugins import plugin_names

PLANNED: tuple[str, ...] = ()
"""Datasets that the commands know by name and cannot read yet."""


class UnreadableSource(Exception):
    """A file cannot be listed at all; the other files go on.

    Attributes:
        source: the file, relative to the dataset's folder.
        code: under which such cases are counted.
    """

    def __init__(self, source: str, code: str, message: str):
        super().__init__(source, code, message)
        self.source, self.code, self.message = source, code, message

    def __str__(self) -> str:
        return self.message


class SeveralForms(ValueError):
    """A folder holds a dataset in more than one form, perhaps the same episodes twice; the message asks for one of them."""


@runtime_checkable
class Reader(Protocol):
    """What a dataset's reader does."""

    def list_episodes(self, root: Path) -> Iterator[EpisodeRef | UnreadableSource]:
        """Name every episode below a folder, in the field's own order, without reading pixels.

        A file that cannot be listed is yielded as ``UnreadableSource``.

        Raises:
            FileNotFoundError: the folder is missing or holds nothing of this dataset; the message says what was looked for.
            SeveralForms: it holds the dataset in more than one form.
        """
        ...

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode.

        Raises:
            BadEpisode: its data cannot be used, with a reason.
        """
        ...


def recognised_datasets() -> list[str]:
    """Every dataset name that the commands accept, readable or planned."""
    return sorted({*plugin_names(__name__), *PLANNED})
