"""Readers: one module for each dataset (see ``schemas.plugins``).

A reader module defines ``Config``, ``INFO`` (a ``DatasetInfo``; the config's own ``info``, if it has one, overrides it)
and ``build(config)``, which returns a ``Reader``. It may define ``unanswered(config, recipe, texts)``, which lists the
options that the user still has to give before anything is built (``pipeline.readers.video``).
"""

from collections.abc import Iterable, Iterator, Mapping
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
        """List every episode below a folder, in the dataset's usual order, without reading pixels.

        A file that cannot be listed is yielded as ``UnreadableSource``.

        Args:
            form: list this form only, for folders that hold several.

        Raises:
            FileNotFoundError: the folder is missing or holds nothing of this dataset; the message says what was
                expected.
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
        MissingDependency: a package that it needs is not installed.
        ValueError: an unknown option or value.
    """
    return build_plugin(__name__, choice)


@dataclass(frozen=True)
class EpisodeTexts:
    """The texts and the outcome of an episode, without its pictures; see ``schemas.episode.Episode``."""

    instructions: tuple[str, ...]
    success: bool | None = None


@runtime_checkable
class TellsWords(Protocol):
    """A reader that can read an episode's texts without decoding a picture."""

    def words(self, ref: EpisodeRef) -> EpisodeTexts:
        """The same texts as in the episode that ``read`` returns.

        Raises:
            BadEpisode: they cannot be read.
        """
        ...


def words_of(reader: Reader, ref: EpisodeRef) -> EpisodeTexts:
    """An episode's texts. A reader that does not implement ``TellsWords`` has to read the episode, which decodes the
    first picture of each camera.

    Raises:
        BadEpisode: they cannot be read.
    """
    if isinstance(reader, TellsWords):
        return reader.words(ref)
    episode = reader.read(ref)
    return EpisodeTexts(episode.instructions, episode.success)


def dataset_choice(said: str, options: Mapping[str, Any]) -> PluginChoice:
    """The reader that ``--dataset`` selects, by its name or by the path of a mapping file, which the reader ``mapped``
    uses.

    Raises:
        BadFile: the mapping file cannot be used; the message gives the place in the file.
    """
    if not said.endswith(SUFFIXES):
        return PluginChoice(said, options)
    from pipeline.readers._mapping_file import load_mapping

    return PluginChoice("mapped", {**options, "mapping": load_mapping(Path(said))})


def dataset_info(name: str, config: Any) -> DatasetInfo:
    """Who made a reader's dataset: ``config.info`` if the config has it, else the module's ``INFO``."""
    return getattr(config, "info", None) or load_plugin(__name__, name).INFO


def unanswered_settings(
    name: str, config: Any, recipe: Mapping[str, Any], texts: Iterable[tuple[str, ...]]
) -> list[str]:
    """What a person has to say before a build, by the reader module's ``unanswered``; nothing where it defines none.

    Args:
        recipe: ``Recipe.as_dict``.
        texts: the instructions of each episode, read as far as they are needed.
    """
    module = load_plugin(__name__, name)
    return module.unanswered(config, recipe, texts) if hasattr(module, "unanswered") else []
