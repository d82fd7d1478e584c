"""Lists episodes and reads their instructions and outcome to select among them, once per folder and selection."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.build.build_state import StateWriter
from pipeline.build.episode_store import Quarantined
from pipeline.build.executor import Executor, Progress, WorkerDied
from pipeline.build.selection import BadSelection, Chosen, Selection, choose_by_words, choose_listed
from pipeline.build.work_folder import CHOSEN
from pipeline.errors import UnreadableSource
from pipeline.formats.discovery import LeftOutSource
from pipeline.readers import EpisodeTexts, Reader, make_reader, unanswered_settings, words_of
from pipeline.recipe import Recipe
from schemas.episode import BadEpisode, EpisodeRef
from schemas.files import canonical_json, digest_of, write_whole
from schemas.plugins import PluginChoice


class Unanswered(BadSelection):
    """The build needs settings that neither the recipe nor the dataset gives; the message lists all of them."""


@dataclass(frozen=True)
class Listing:
    """The episodes of a folder, and those that the selection leaves as far as the listing decides.

    Attributes:
        total: episodes listed.
        unreadable: files that could not be listed.
    """

    chosen: Chosen
    total: int
    unreadable: list[Quarantined]


def list_chosen(recipe: Recipe, source: Path, selection: Selection, form: str | None = None) -> Listing:
    """List a folder with the recipe's reader and apply the selection.

    Raises:
        FileNotFoundError: the folder holds nothing of this dataset.
        SeveralForms, UnknownForm: it is there in several forms and none was chosen, or the reader lacks that form.
        BadSelection: the selection is not possible.
        Unanswered: see there.
    """
    reader = make_reader(recipe.dataset)
    listed = list(reader.list_episodes(source, form))
    refs = [item for item in listed if isinstance(item, EpisodeRef)]
    faults = [item for item in listed if isinstance(item, UnreadableSource)]
    unreadable = [Quarantined(u.source, "", u.code, u.message) for u in faults if not isinstance(u, LeftOutSource)]
    if selection.episodes:  # of a partial download, the selected episodes are there
        unreadable = [u for u in unreadable if not u.absent]
    chosen = choose_listed(selection, refs)
    if chosen.refs:
        texts = (_texts(reader, ref) for ref in chosen.refs)
        config = recipe.configs()["readers"]
        if asked := unanswered_settings(recipe.dataset.name, config, recipe.as_dict(), texts):
            raise Unanswered(f"{source} does not say what the build needs; add {'; and '.join(asked)}")
    unfinished = {f"{u.code} ({u.source})": 1 for u in faults if isinstance(u, LeftOutSource)}
    return Listing(Chosen(chosen.refs, {**chosen.left_out, **unfinished}), len(refs), unreadable)


def _texts(reader: Reader, ref: EpisodeRef) -> tuple[str, ...]:
    """An episode's texts; none if unreadable, which is reported when the episode is read."""
    try:
        return words_of(reader, ref).instructions
    except BadEpisode:
        return ()


class WordsWorker:
    """Reads episodes' instructions and outcome; runs in a worker process."""

    def __init__(self, dataset: PluginChoice):
        self.reader = make_reader(dataset)

    def __call__(self, ref: EpisodeRef) -> EpisodeTexts | Quarantined:
        """The instructions and outcome of one episode."""
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
    state: StateWriter,
) -> tuple[Chosen, list[Quarantined]]:
    """The episodes selected by instructions and outcome, and those that could not be read.

    The result is kept in the work folder, so a resumed build does not read all episodes again.

    Args:
        refs: the episodes left by the listing (``pipeline.build.selection.choose_listed``).
        work: the work folder.
        state: where the reading is noted.
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
        state.enter("words", len(some))
        results = executor.run(_WordsWorkerFactory(recipe.dataset), some, begun=lambda ref: state.begun(ref.name))
        for ref, result in progress("words", len(some), results):
            state.finished(ref.name)
            if isinstance(result, WorkerDied):
                result = Quarantined(ref.source, ref.episode, "worker_died", f"{ref.name}: {result.message}")
            if isinstance(result, Quarantined):
                bad.append(result)
                state.quarantine(result)
            yield ref, None if isinstance(result, Quarantined) else result

    chosen = choose_by_words(selection, refs, look)
    if not bad:  # a bad episode may be repaired without a new fingerprint, e.g. by another file
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
