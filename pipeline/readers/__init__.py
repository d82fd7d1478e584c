"""Readers: one module for each dataset (see ``schemas.plugins``).

A reader module defines ``Config``, ``INFO`` (a ``DatasetInfo``; a config with an ``info`` of its own goes before it)
and ``build(config)``, which gives a ``Reader``. It may define ``unanswered(config, recipe, texts)``, which says all
that a person has to add to the command before anything is built (``pipeline.readers.video``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pipeline.errors import UnreadableSource
from schemas.episode import DatasetInfo, Episode, EpisodeRef
from schemas.plugins import PluginChoice, build_plugin, load_plugin
from schemas.structured import SUFFIXES


@runtime_checkable
class Reader(Protocol):
    """What a dataset's reader does."""

    def list_episodes(self, root: Path, form: str | None = None) -> Iterator[EpisodeRef | UnreadableSource]:
        """Name every episode below a folder, in the field's own order, without reading pixels.

        A file that cannot be listed is yielded as ``UnreadableSource``.

        Args:
            form: look at this form only, for folders that hold several.

        Raises:
            FileNotFoundError: the folder is missing or holds nothing of this dataset; the message says what was looked
                for.
            SeveralForms: it holds the dataset in more than one form, and none was chosen.
            UnknownForm: the reader knows no such form.
        """
        ...

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode.

        Raises:
            BadEpisode: its data cannot be used, with a reason.
        """
        ...


def make_reader(choice: PluginChoice) -> Reader:
    """The reader that was chosen.

    Raises:
        UnknownPlugin: no reader has this name.
        MissingDependency: what it needs is not there.
        ValueError: an unknown option or value.
    """
    return build_plugin(__name__, choice)


@dataclass(frozen=True)
class EpisodeTexts:
    """What an episode says of itself, without its pictures: see ``schemas.episode.Episode``."""

    instructions: tuple[str, ...]
    success: bool | None = None


@runtime_checkable
class TellsWords(Protocol):
    """A reader that can say an episode's words without decoding a picture."""

    def words(self, ref: EpisodeRef) -> EpisodeTexts:
        """The same as those of the episode that ``read`` gives.

        Raises:
            BadEpisode: they cannot be read.
        """
        ...


def words_of(reader: Reader, ref: EpisodeRef) -> EpisodeTexts:
    """An episode's words. A reader that is no ``TellsWords`` reads the episode for them, with the first picture of each
    camera.

    Raises:
        BadEpisode: they cannot be read.
    """
    if isinstance(reader, TellsWords):
        return reader.words(ref)
    episode = reader.read(ref)
    return EpisodeTexts(episode.instructions, episode.success)


def dataset_choice(said: str, options: Mapping[str, Any]) -> PluginChoice:
    """The reader that ``--dataset`` names: by its name, or by the path of a mapping file, for which ``mapped`` is the
    reader.

    Raises:
        BadFile: the mapping file cannot be used; the message names the place in it.
    """
    if not said.endswith(SUFFIXES):
        return PluginChoice(said, options)
    from pipeline.readers._mapping_file import load_mapping

    return PluginChoice("mapped", {**options, "mapping": load_mapping(Path(said))})


def dataset_info(name: str, config: Any) -> DatasetInfo:
    """Who made a reader's dataset: the module's ``INFO``, unless the reader is told by its config (``config.info``)."""
    return getattr(config, "info", None) or load_plugin(__name__, name).INFO
