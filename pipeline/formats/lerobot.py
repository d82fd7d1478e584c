"""Episodes of a LeRobot dataset, versions 2.0, 2.1 and 3.0: columns are read by PyArrow and videos by PyAV, on
demand.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pipeline.errors import UnreadableSource
from pipeline.formats.fingerprint import stamps_of
from pipeline.formats.lerobot_meta import INFO, BadMeta, EpisodeRow, LeRobotMeta, meta_files, read_meta
from pipeline.formats.lerobot_rows import first_row, row_numbers
from pipeline.formats.ref_paths import path_of
from pipeline.formats.video import NEAR, VideoSpan, count_frames
from schemas.episode import BadEpisode, EpisodeRef
from schemas.file_cache import local_file
from schemas.locations import locate

UNREADABLE = (OSError, ValueError, LookupError, TypeError, RuntimeError, MemoryError)
"""The exceptions that PyArrow raises for a damaged table, besides its own ``ArrowException``."""


def list_lerobot(
    dataset: str, root: Path, folder: Path, is_ours: Callable[[LeRobotMeta], str | None]
) -> Iterator[EpisodeRef | UnreadableSource]:
    """The episodes of a LeRobot folder, in the order of its own list.

    Args:
        dataset: name for the refs.
        root: the dataset's folder, to which sources are relative.
        folder: where ``meta/info.json`` is.
        is_ours: returns what is missing if these are another dataset's files.
    """
    within = folder.relative_to(root)
    described = (within / INFO).as_posix()
    try:
        fingerprint = _meta_fingerprint(folder)
        meta = _meta(str(folder), fingerprint)
    except (BadMeta, OSError) as error:
        yield UnreadableSource(described, "bad_meta", str(error))
        return
    foreign = is_ours(meta)
    if foreign is not None:
        yield UnreadableSource(
            described,
            "foreign_features",
            f"{described} has no {foreign}, so it is not {dataset}; is it another dataset's folder?",
        )
        return
    if len(meta.episodes) != meta.promised:
        yield UnreadableSource(
            described, "missing_episodes", f"{described} says {meta.promised} episodes, {len(meta.episodes)} are listed"
        )
    seen: set[int] = set()
    missing: set[str] = set()
    for row in meta.episodes:
        source = (within / row.data).as_posix()
        path = folder / row.data
        if row.index in seen:
            yield UnreadableSource(described, "duplicate_episode", f"{described}: episode {row.index} is listed twice")
        elif path.is_file():
            files = stamps_of([path, *(span.path for span in row.videos.values() if span.path.is_file())])
            split = next((name for name, numbers in meta.splits.items() if row.index in numbers), None)
            yield EpisodeRef(dataset, source, row.name, str(path), f"{fingerprint}-{files}", split)
        elif row.data not in missing:
            missing.add(row.data)
            yield UnreadableSource(source, "missing_file", f"{source} is named by {described} and is not there")
        seen.add(row.index)


def folder_of(ref: EpisodeRef) -> Path:
    """The LeRobot folder that a ref's parquet file belongs to."""
    return next(parent for parent in path_of(ref).parents if (parent / INFO).is_file())


def read_lerobot(ref: EpisodeRef) -> "LeRobotEpisode":
    """One episode; columns and frames are read on demand.

    Raises:
        BadEpisode: it cannot be read, or its table does not fit the dataset's own list.
    """
    try:
        folder = folder_of(ref)
        meta = _meta(str(folder), _meta_fingerprint(folder))
        row = meta.by_name[ref.episode]
    except (BadMeta, OSError, StopIteration, KeyError) as error:
        raise BadEpisode("unreadable_episode", f"{ref.name} cannot be found in its dataset: {error}") from error
    episode = LeRobotEpisode(ref, meta, row)
    episode.check_rows()
    return episode


class LeRobotEpisode:
    """One episode's columns and cameras.

    Attributes:
        meta: the dataset's description.
        row: where the episode is stored.
        length: T.
    """

    def __init__(self, ref: EpisodeRef, meta: LeRobotMeta, row: EpisodeRow):
        self.ref, self.meta, self.row, self.length = ref, meta, row, row.length

    @cached_property
    def _file(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with local_file(path_of(self.ref)) as here:
                return pq.ParquetFile(here)  # stays readable when the cache removes the name
        except (*UNREADABLE, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    @cached_property
    def _first_row(self) -> int:
        """Where the episode begins in its table.

        Raises:
            BadEpisode: table and list disagree.
        """
        import pyarrow as pa

        path = path_of(self.ref)
        try:
            numbers = row_numbers(path, stamps_of([path]))
        except (*UNREADABLE, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        return first_row(self.ref.name, self.row, numbers, self.meta.listed_in[self.row.data])

    def has(self, key: str) -> bool:
        """Whether the table has this column."""
        return key in self._file.schema_arrow.names

    def array(self, key: str) -> Shaped[np.ndarray, " T *d"]:
        """A column of numbers; lists of equal length become further dimensions.

        Raises:
            BadEpisode: no such column, a gap in it, lists of different lengths, or no numbers.
        """
        column = self._column(key)
        try:
            values = np.asarray(column.to_pylist())
        except ValueError as error:
            raise BadEpisode("wrong_shape", f"{self.ref.name}: {key} must hold lists of one length") from error
        if values.dtype.kind not in "fiub" or column.null_count:
            raise BadEpisode(
                "wrong_dtype", f"{self.ref.name}: {key} must hold numbers without gaps, found {column.type}"
            )
        return values

    def texts(self, key: str) -> list[str]:
        """A column of texts; blank if there is no such column."""
        return [str(text) if text is not None else "" for text in self._column(key).to_pylist()]

    def tasks(self) -> list[str]:
        """The instruction of each step, by ``task_index``."""
        return [self.meta.tasks.get(int(index), "") for index in self.array("task_index").reshape(-1)]

    def pictures(self, key: str) -> list[bytes]:
        """A camera of dtype ``image``: encoded pictures stored in the table."""
        values = self._column(key).to_pylist()
        found = [value.get("bytes") if isinstance(value, dict) else None for value in values]
        if not all(found):
            raise BadEpisode("missing_camera", f"{self.ref.name}: {key} has no picture in row {found.index(None)}")
        return [data for data in found if data]

    def video(self, key: str) -> VideoSpan:
        """A camera of dtype ``video``. As in LeRobot, the picture of a row is the one whose time is nearest to the sum
        of ``from_timestamp`` and the row's ``timestamp``.

        Raises:
            BadEpisode: the dataset has no such camera, or its span of the video cannot be this episode's.
        """
        if key not in self.row.videos:
            raise BadEpisode("missing_camera", f"{self.ref.name} has no video {key}")
        said = self.meta.span_faults.get((self.row.index, key))
        if said is not None:
            raise BadEpisode(said[0], f"{self.ref.name}: {key}: {said[1]}")
        span = self.row.videos[key]
        if not self.has("timestamp"):
            return span
        told = self.array("timestamp").reshape(-1).astype(np.float64)
        if self.row.indices is None:
            return replace(span, times=tuple((told - self._begun(span, float(told[0]))).tolist()))
        times, end = span.start_s + told, self.row.video_ends.get(key)
        needed = times[-1] + 1 / self.meta.fps
        if end is not None and abs(end - needed) * self.meta.fps > 0.5:
            raise BadEpisode(
                "video_span",
                f"{self.ref.name}: {key}: the list gives it {span.path.name} from {span.start_s:.3f} to {end:.3f} s, "
                f"its {self.length} rows by their timestamps need {times[0]:.3f} to {needed:.3f} s",
            )
        return replace(span, times=tuple(times.tolist()))

    def _begun(self, span: VideoSpan, first: float) -> float:
        """The start of the episode in a video of its own, from the table's timestamps, seconds.

        Timestamps begin above 0 if rows were trimmed at the front and the video was not, or if the recorder's clock ran
        before the first picture; in the second case there are as many pictures as rows.
        """
        late = first * self.meta.fps > NEAR
        return first if late and count_frames(self.ref.name, span.path) == self.length else 0.0

    def check_rows(self) -> None:
        """Refuse a table that does not match the dataset's list of episodes.

        Raises:
            BadEpisode: other rows than expected, or times that do not advance by one frame.
        """
        rows = self._file.metadata.num_rows
        alone = self.row.indices is None
        if (alone and rows != self.length) or rows < self._first_row + self.length:
            raise BadEpisode("rows_mismatch", f"{self.ref.name} must have {self.length} rows, its file has {rows} rows")
        if self.has("timestamp"):
            times = self.array("timestamp").reshape(-1).astype(np.float64)
            if not np.isfinite(times).all():
                raise BadEpisode("timestamps_off", f"{self.ref.name}: a timestamp is no number")
            gaps = np.diff(times) * self.meta.fps
            if (np.abs(gaps - 1) > 0.5).any():
                worst = int(np.abs(gaps - 1).argmax())
                raise BadEpisode(
                    "timestamps_off",
                    f"{self.ref.name}: from row {worst} to the next {gaps[worst] / self.meta.fps:.3f} s pass, one "
                    f"frame is {1 / self.meta.fps:.3f} s",
                )

    def _column(self, key: str) -> Any:
        """The episode's rows of a column, from the row groups that hold them."""
        import pyarrow as pa

        if not self.has(key):
            raise BadEpisode("missing_field", f"{self.ref.name} has no column {key}")
        first, last = self._first_row, self._first_row + self.length
        groups, skipped, start = [], 0, 0
        for number in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(number).num_rows
            if start < last and start + count > first:
                groups.append(number)
            elif start + count <= first:
                skipped = start + count
            start += count
        try:
            table = self._file.read_row_groups(groups, columns=[key])
            return table[key].slice(first - skipped, self.length).combine_chunks()
        except (*UNREADABLE, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: BaseException) -> BadEpisode:
        said = " ".join(str(error).split())
        return BadEpisode("unreadable_episode", f"{self.ref.name} cannot be read as parquet: {said}")


def _meta_fingerprint(folder: Path) -> str:
    return stamps_of(meta_files(folder))


@lru_cache(maxsize=16)
def _meta(folder: str, fingerprint: str) -> LeRobotMeta:
    """A dataset's description, read once per process and again after a change."""
    return read_meta(locate(folder))
