"""Which rows of a table belong to an episode.

LeRobot v3.0 lists for each episode a file and a range of the column ``index``. The list can be stale or lack an
episode, so it is compared with the table's own ``index``, ``episode_index`` and ``frame_index``. An episode on which
list and table disagree is refused. DROID's files do not number their episodes uniquely; there only the list's range of
``index`` is used, provided that ``frame_index`` is 0 at its beginning and again right after its end.
"""

from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from pipeline.formats.lerobot_meta import EpisodeRow
from schemas.episode import BadEpisode
from schemas.file_cache import local_file

COLUMNS = ("index", "episode_index", "frame_index")


@dataclass(frozen=True)
class RowNumbers:
    """The columns that assign a table's rows to episodes; None for a missing column."""

    index: Int[np.ndarray, " N"] | None
    episode_index: Int[np.ndarray, " N"] | None
    frame_index: Int[np.ndarray, " N"] | None

    @cached_property
    def episodes(self) -> frozenset[int] | None:
        """The numbers in ``episode_index``; None if they are not unique to the table's episodes."""
        if self.episode_index is None:
            return None
        numbers, changes = np.unique(self.episode_index), np.flatnonzero(np.diff(self.episode_index))
        begun = len(changes) + 1 if self.frame_index is None else int((self.frame_index == 0).sum())
        return frozenset(numbers.tolist()) if max(len(changes) + 1, begun) == len(numbers) else None


@lru_cache(maxsize=8)
def row_numbers(path: Path, stamp: str) -> RowNumbers:
    """The numbers in a file's columns, read once per process and again after a change.

    Raises:
        What PyArrow raises for a damaged table; ValueError: a column has gaps or holds something else.
    """
    import pyarrow.parquet as pq

    with local_file(path) as here, pq.ParquetFile(here) as file:
        there = [name for name in COLUMNS if name in file.schema_arrow.names]
        table = file.read(columns=there)
    return RowNumbers(**{name: _whole_numbers(name, table[name]) if name in there else None for name in COLUMNS})


def _whole_numbers(name: str, column: Any) -> Int[np.ndarray, " N"]:
    if column.null_count:
        raise ValueError(f"the column {name} has gaps")
    try:
        return np.asarray(column.to_numpy()).astype(np.int64)
    except (TypeError, ValueError):  # lists of one number
        return np.asarray(column.to_pylist()).reshape(len(column)).astype(np.int64)


def first_row(name: str, row: EpisodeRow, numbers: RowNumbers, listed: Set[int]) -> int:
    """The first of an episode's rows in its table; the others follow it.

    Args:
        name: the episode's name, for messages.
        listed: every episode that the dataset's list has in this file.

    Raises:
        BadEpisode: ``rows_mismatch``, if list and table disagree or the rows cannot be determined.
    """
    own = numbers.episodes if numbers.episodes is not None and numbers.episodes & listed else None
    first = _by_index(name, row, numbers) if row.indices is not None else _alone(name, row, numbers)
    rows, counted = slice(first, first + row.length), np.arange(row.length)
    if numbers.frame_index is not None and not np.array_equal(numbers.frame_index[rows], counted):
        raise _mismatch(name, f"frame_index does not count its {row.length} rows in {row.data} from 0")
    if own is None and row.indices is not None:
        after = numbers.frame_index[first + row.length :][:1] if numbers.frame_index is not None else np.zeros(0)
        if after.any():
            raise _mismatch(name, f"{row.data} has more rows of it than the {row.length} that the list says")
        return first
    if numbers.episode_index is None:
        return first
    found = np.unique(numbers.episode_index[rows]).tolist()
    if found != [row.index]:
        said = ", ".join(str(number) for number in found[:3])
        raise _mismatch(
            name, f"the rows of {row.data} that the list gives it are those of episode {said} by their episode_index"
        )
    count = int((numbers.episode_index == row.index).sum())
    if count != row.length:
        raise _mismatch(name, f"{row.data} has {count} rows of it by their episode_index, the list says {row.length}")
    return first


def _by_index(name: str, row: EpisodeRow, numbers: RowNumbers) -> int:
    """The position of the rows whose ``index`` is the listed range."""
    assert row.indices is not None
    wanted = f"index {row.indices.start} to {row.indices.stop - 1}"
    if len(row.indices) != row.length:
        raise _mismatch(name, f"the list gives it {row.length} rows and {wanted}")
    if numbers.index is None:
        raise _mismatch(name, f"{row.data} has no column index, so its rows cannot be told from others")
    places = np.flatnonzero(numbers.index == row.indices.start)
    fits = len(places) == 1 and places[0] + row.length <= len(numbers.index)
    if fits and np.array_equal(numbers.index[places[0] :][: row.length], np.asarray(row.indices)):
        return int(places[0])
    there = f"{numbers.index.min()} to {numbers.index.max()}" if len(numbers.index) else "none"
    again = ", some more than once" if len(np.unique(numbers.index)) < len(numbers.index) else ""
    raise _mismatch(name, f"the list gives it the rows with {wanted} of {row.data}; its file has {there}{again}")


def _alone(name: str, row: EpisodeRow, numbers: RowNumbers) -> int:
    """The first row of a table that holds one episode."""
    if numbers.index is not None and (np.diff(numbers.index) != 1).any():
        raise _mismatch(name, f"index does not count its rows in {row.data}")
    return 0


def _mismatch(name: str, said: str) -> BadEpisode:
    return BadEpisode("rows_mismatch", f"{name}: {said}")
