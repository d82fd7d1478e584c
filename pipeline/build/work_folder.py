"""Locking and cleaning of the output folder: one build at a time, without partial or stale files."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.build.store_lock import held_in_store
from pipeline.errors import BuildError
from schemas.files import remove, remove_partials
from schemas.locations import StorePath
from schemas.locks import held
from schemas.plugins import plugin_names
from schemas.shard_formats import suffix_of, webdataset

WORK = ".lamp"
"""Finished episodes, records of finished shards and the lock, in the output folder."""
LOCK = "lock"
EPISODE_STORE = "episodes"
"""Finished episodes (``pipeline.build.episode_store``), in the work folder."""
CHOSEN = "chosen.json"
"""The episodes that were chosen by their instructions or outcome."""
COMPLETE = "complete.json"
"""File that records the inputs of the complete shards."""


@contextlib.contextmanager
def locked(output: Path) -> Iterator[Path]:
    """The work folder, locked against a second build; the lock is released when the process ends, however it ends.

    Raises:
        BuildError: the folder cannot be created or is in use.
    """
    work = output / WORK
    if isinstance(work, StorePath):
        with held_in_store(work):
            yield work
        return
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / LOCK).touch()
    except OSError as error:
        raise BuildError(
            f"{output} cannot be written to ({error.strerror}: {error.filename}); make room for it or choose another "
            "--output"
        ) from error
    with contextlib.ExitStack() as held_now:
        try:
            held_now.enter_context(held(work / LOCK))
        except BlockingIOError:
            raise BuildError(
                f"another build is writing into {output}; wait for it or choose another --output"
            ) from None
        yield work


def clear_partials(output: Path, work: Path) -> None:
    """Remove temporary files that killed writers left; a store has none."""
    if isinstance(output, StorePath):
        return
    for folder in (output, work, work / "records", *(work / EPISODE_STORE).glob("??")):
        if folder.is_dir():
            remove_partials(folder)


def clear_work(work: Path) -> None:
    """Remove what a complete build no longer needs."""
    for name in (EPISODE_STORE, "records"):
        if isinstance(work, StorePath):
            (work / name).remove_below()
            continue
        shutil.rmtree(work / name, ignore_errors=True)
    (work / CHOSEN).unlink(missing_ok=True)


def remove_stale(output: Path, work: Path, shards: set[str], dataset: str) -> None:
    """Remove an earlier build's shards that the new one does not have, and their records.

    Args:
        shards: names of the new build's shards; the index beside a tar belongs to it.
        dataset: its name, which may contain dots.
    """
    kept = {*shards, *(webdataset.index_path(Path(name)).name for name in shards if name.endswith(webdataset.SUFFIX))}
    suffixes = [suffix_of(name) for name in plugin_names("schemas.shard_formats")] + [webdataset.INDEX_SUFFIX]
    shard = re.compile(rf"({re.escape(dataset)}-\d{{6,}})({'|'.join(map(re.escape, suffixes))})")
    for path in list(output.iterdir()):
        if shard.fullmatch(path.name) and path.name not in kept:
            remove(path)
    stems = {match[1] for name in shards if (match := shard.fullmatch(name))}
    record = re.compile(rf"({re.escape(dataset)}-\d{{6,}})\.json")
    records = work / "records"
    for path in list(records.iterdir()) if records.is_dir() else []:
        if (match := record.fullmatch(path.name)) and match[1] not in stems:
            remove(path)
