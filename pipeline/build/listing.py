"""Reads the words of listed episodes to choose among them, once for each folder and choice."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.build.episode_store import Quarantined
from pipeline.build.executor import Executor, Progress, WorkerDied
from pipeline.build.selection import BadSelection, Chosen, Selection, choose_by_words, choose_listed
from pipeline.build.work_folder import CHOSEN
from pipeline.errors import UnreadableSource
from pipeline.formats.discovery import LeftOutSource
from pipeline.readers import EpisodeTexts, Reader, make_reader, words_of
from pipeline.recipe import Recipe
from schemas.episode import BadEpisode, EpisodeRef
from schemas.files import canonical_json, digest_of, write_whole
from schemas.plugins import PluginChoice, load_plugin


class Unanswered(BadSelection):
    """Nothing was said of what no episode of the dataset tells and the recipe needs; the message says all of it."""


@dataclass(frozen=True)
class Listing:
    """What lies in a folder, and what of it the choice leaves as far as the listing tells.

    Attributes:
        total: episodes listed.
        unreadable: files that could not be listed.
    """

    chosen: Chosen
    total: int
    unreadable: list[Quarantined]


def list_chosen(recipe: Recipe, source: Path, selection: Selection, form: str | None = None) -> Listing:
    """List a folder with the recipe's reader and choose.

    Raises:
        FileNotFoundError: there is nothing of this dataset.
        SeveralForms, UnknownForm: it lies there in several forms and none was chosen, or is not read in that one.
        BadSelection: nothing can be chosen like that.
        Unanswered: see there.
    """
    module, config = load_plugin("pipeline.readers", recipe.dataset.name), recipe.configs()["readers"]
    reader = make_reader(recipe.dataset)
    listed = list(reader.list_episodes(source, form))
    refs = [item for item in listed if isinstance(item, EpisodeRef)]
    faults = [item for item in listed if isinstance(item, UnreadableSource)]
    unreadable = [Quarantined(u.source, "", u.code, u.message) for u in faults if not isinstance(u, LeftOutSource)]
    if selection.episodes:  # of a download of some episodes, those that were asked for are there
        unreadable = [u for u in unreadable if not u.absent]
    chosen = choose_listed(selection, refs)
    if chosen.refs and hasattr(module, "unanswered"):
        texts = (_texts(reader, ref) for ref in chosen.refs)
        if asked := module.unanswered(config, recipe.as_dict(), texts):
            raise Unanswered(f"{source} does not say what the build needs; add {'; and '.join(asked)}")
    unfinished = {f"{u.code} ({u.source})": 1 for u in faults if isinstance(u, LeftOutSource)}
    return Listing(Chosen(chosen.refs, {**chosen.left_out, **unfinished}), len(refs), unreadable)


def _texts(reader: Reader, ref: EpisodeRef) -> tuple[str, ...]:
    """An episode's texts; none where they cannot be read, which is said when the episode is."""
    try:
        return words_of(reader, ref).instructions
    except BadEpisode:
        return ()


class WordsWorker:
    """Reads episodes' words; lives in a worker process."""

    def __init__(self, dataset: PluginChoice):
        self.reader = make_reader(dataset)

    def __call__(self, ref: EpisodeRef) -> EpisodeTexts | Quarantined:
        """One episode's words."""
        try:
            return words_of(self.reader, ref)
        except BadEpisode as error:
            return Quarantined.of(ref, error)


@dataclass(frozen=True)
class _WordsWorkerFactory:
    dataset: PluginChoice

    def __call__(self) -> WordsWorker:
        return WordsWorker(self.dataset)


def wanted_episodes(
    recipe: Recipe,
    selection: Selection,
    refs: Sequence[EpisodeRef],
    work: Path,
    executor: Executor,
    progress: Progress,
) -> tuple[Chosen, list[Quarantined]]:
    """The episodes whose words and outcome are wanted, and those that could not be asked.

    What was chosen is kept in the work folder, so that a build that goes on does not read all words again.

    Args:
        refs: what the listing left (``pipeline.build.selection.choose_listed``).
        work: the work folder.
    """
    if not selection.needs_words:
        return Chosen(list(refs), {}), []
    name = digest_of(
        [selection.as_dict(), recipe.as_dict()["dataset"], [(ref.digest, ref.fingerprint) for ref in refs]]
    )
    kept = _kept(work / CHOSEN, name, refs)
    if kept is not None:
        return kept, []
    bad: list[Quarantined] = []

    def look(some: Sequence[EpisodeRef]) -> Iterator[tuple[EpisodeRef, EpisodeTexts | None]]:
        results = executor.run(_WordsWorkerFactory(recipe.dataset), some)
        for ref, result in progress("words", len(some), results):
            if isinstance(result, WorkerDied):
                result = Quarantined(ref.source, ref.episode, "worker_died", f"{ref.name}: {result.message}")
            if isinstance(result, Quarantined):
                bad.append(result)
            yield ref, None if isinstance(result, Quarantined) else result

    chosen = choose_by_words(selection, refs, look)
    if not bad:  # what was bad may be mended without a new fingerprint, e.g. another file beside it
        digests = [ref.digest for ref in chosen.refs]
        write_whole(work / CHOSEN, canonical_json({"name": name, "refs": digests, "left_out": chosen.left_out}))
    return chosen, bad


def _kept(path: Path, name: str, refs: Sequence[EpisodeRef]) -> Chosen | None:
    try:
        values = json.loads(path.read_bytes())
        if values["name"] != name:
            return None
        there = {ref.digest: ref for ref in refs}
        return Chosen([there[digest] for digest in values["refs"]], dict(values["left_out"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
