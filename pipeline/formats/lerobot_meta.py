"""The metadata of a LeRobot dataset: versions 2.0, 2.1 (one file per episode) and 3.0 (many episodes in a file).

``meta/info.json`` gives features, frames per second and the templates of paths. Episodes are listed in
``meta/episodes.jsonl`` (2.x) or ``meta/episodes/**.parquet`` (3.0), instructions in ``meta/tasks.jsonl`` or
``meta/tasks.parquet``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.formats.lerobot_spans import span_faults
from pipeline.formats.lfs import is_lfs_pointer, lfs_words
from pipeline.formats.video import VideoSpan
from schemas.file_cache import local_file

INFO = "meta/info.json"
TASK_COLUMNS = ("task", "__index_level_0__")
"""The columns in which ``meta/tasks.parquet`` may have its texts; the first that exists is used."""
SPAN = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
"""The columns that locate an episode in a camera's videos of v3.0."""

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError, ArithmeticError)
"""The exceptions that broken descriptions raise: JSON of another structure, damaged parquet, invalid numbers."""


class BadMeta(ValueError):
    """The dataset's own description cannot be used; the message names the file."""


@dataclass(frozen=True)
class EpisodeRow:
    """Where one episode is stored.

    Attributes:
        index: its number in the dataset.
        length: T.
        data: the parquet file, relative to the dataset's folder.
        indices: its range of the column ``index``, from the list of episodes; None if the file holds this episode
            only.
        videos: its span of a video file, by camera; times are counted from ``start_s``.
        video_ends: where that span ends, seconds from the beginning of the file, from the list of episodes.
    """

    index: int
    length: int
    data: str
    indices: range | None
    videos: Mapping[str, VideoSpan]
    video_ends: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The episode's name, as in the file names of version 2."""
        return f"episode_{self.index:06d}"


@dataclass(frozen=True)
class LeRobotMeta:
    """A dataset's description.

    Attributes:
        version: ``v2.0``, ``v2.1`` or ``v3.0``.
        fps: as labelled, which may be wrong.
        features: by key, as ``info.json`` has them.
        tasks: instruction by ``task_index``.
        promised: how many episodes ``info.json`` says there are.
        splits: the indices of each split's episodes.
    """

    folder: Path
    version: str
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    episodes: tuple[EpisodeRow, ...]
    tasks: Mapping[int, str]
    promised: int
    splits: Mapping[str, range] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, EpisodeRow]:
        """The episodes by their names."""
        return {row.name: row for row in self.episodes}

    @cached_property
    def listed_in(self) -> dict[str, frozenset[int]]:
        """The numbers of the episodes that are listed for each data file, by the file's name."""
        found: dict[str, set[int]] = {}
        for row in self.episodes:
            found.setdefault(row.data, set()).add(row.index)
        return {data: frozenset(numbers) for data, numbers in found.items()}

    @cached_property
    def span_faults(self) -> dict[tuple[int, str], tuple[str, str]]:
        """See ``pipeline.formats.lerobot_spans``."""
        shared = [row for row in self.episodes if row.indices is not None]
        return span_faults((row.index, row.videos, row.video_ends) for row in shared)


def meta_files(folder: Path) -> list[Path]:
    """The files that describe a dataset; hidden ones, such as ``._file-000.parquet``, are ignored."""
    found = (folder / "meta").rglob("*")
    return sorted(p for p in found if p.suffix in (".json", ".jsonl", ".parquet") and not p.name.startswith("."))


def read_meta(folder: Path) -> LeRobotMeta:
    """Read a dataset's description.

    Raises:
        BadMeta: a file of it is missing or broken, or the version is not known.
    """
    try:
        info = json.loads((folder / INFO).read_bytes())
        version = str(info["codebase_version"])
        if version not in ("v2.0", "v2.1", "v3.0"):
            raise BadMeta(f"{folder.name}/{INFO} says version {version}; v2.0, v2.1 and v3.0 are read")
        if not 0 < float(info["fps"]) < 10_000:
            raise BadMeta(f"{folder.name}/{INFO} says {info['fps']} frames a second")
        read = _read_v3 if version == "v3.0" else _read_v2
        episodes, tasks = read(folder, info)
        return LeRobotMeta(
            folder,
            version,
            float(info["fps"]),
            info["features"],
            episodes,
            tasks,
            int(info["total_episodes"]),
            _splits(info.get("splits")),
        )
    except BadMeta:
        raise
    except FileNotFoundError as error:
        missing = Path(str(error.filename or "meta")).name
        raise BadMeta(f"{folder.name} lacks {missing} in meta") from error
    except UNREADABLE as error:
        for path in filter(is_lfs_pointer, meta_files(folder)):
            raise BadMeta(lfs_words(f"{folder.name}/{path.relative_to(folder).as_posix()}")) from error
        raise BadMeta(f"the files in {folder.name}/meta do not describe a LeRobot dataset: {_plain(error)}") from error


def _splits(said: Any) -> dict[str, range]:
    """``{"train": "0:90"}``: from the first index up to the second; entries of another format are ignored."""
    if not isinstance(said, Mapping):
        return {}
    spans = {str(name): re.fullmatch(r"(\d+):(\d+)", str(text)) for name, text in said.items()}
    return {name: range(int(span[1]), int(span[2])) for name, span in spans.items() if span}


def _video_keys(info: Mapping[str, Any]) -> list[str]:
    return [key for key, feature in info["features"].items() if feature.get("dtype") == "video"]


def _read_v2(folder: Path, info: Mapping[str, Any]) -> tuple[tuple[EpisodeRow, ...], dict[int, str]]:
    tasks = {int(line["task_index"]): str(line["task"]) for line in _lines(folder / "meta/tasks.jsonl")}
    rows = []
    for line in _lines(folder / "meta/episodes.jsonl"):
        index, length = int(line["episode_index"]), int(line["length"])
        place = {"episode_chunk": index // int(info["chunks_size"]), "episode_index": index}
        videos = {
            key: VideoSpan(
                folder / _placed(info["video_path"], video_key=key, **place), 0.0, length, float(info["fps"]), True
            )
            for key in _video_keys(info)
        }
        rows.append(EpisodeRow(index, length, _placed(info["data_path"], **place), None, videos))
    return tuple(rows), tasks


def _read_v3(folder: Path, info: Mapping[str, Any]) -> tuple[tuple[EpisodeRow, ...], dict[int, str]]:
    import pyarrow.parquet as pq

    keys = _video_keys(info)
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    columns += ["dataset_from_index", "dataset_to_index"]
    columns += [f"videos/{key}/{name}" for key in keys for name in SPAN]
    files = [path for path in meta_files(folder) if path.is_relative_to(folder / "meta/episodes")]
    files = [path for path in files if path.suffix == ".parquet"]
    if not files:
        raise BadMeta(f"{folder.name} has no meta/episodes/*/*.parquet")
    lines = []
    for path in files:
        with local_file(path) as here, pq.ParquetFile(here) as file:
            there = set(file.schema_arrow.names)
            lines += file.read(columns=[c for c in columns if c in there]).to_pylist()
    return tuple(_v3_row(folder, info, line, keys) for line in lines), _v3_tasks(folder)


def _v3_row(folder: Path, info: Mapping[str, Any], line: Mapping[str, Any], keys: list[str]) -> EpisodeRow:
    length, first, stop = int(line["length"]), int(line["dataset_from_index"]), line.get("dataset_to_index")
    videos, ends = {}, {}
    for key in keys:
        if line.get(f"videos/{key}/file_index") is not None:
            place = {name: line[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
            path = folder / _placed(info["video_path"], video_key=key, **place)
            start = float(line[f"videos/{key}/from_timestamp"])
            videos[key] = VideoSpan(path, start, length, float(info["fps"]), False)
            if line.get(f"videos/{key}/to_timestamp") is not None:
                ends[key] = float(line[f"videos/{key}/to_timestamp"])
    return EpisodeRow(
        index=int(line["episode_index"]),
        length=length,
        data=_placed(info["data_path"], chunk_index=line["data/chunk_index"], file_index=line["data/file_index"]),
        indices=range(first, first + length if stop is None else int(stop)),
        videos=videos,
        video_ends=ends,
    )


def _placed(template: str, **place: Any) -> str:
    """A file's name from its template. Links on disk may lead out of the folder, as in download caches; a
    name in the dataset's own description may not.

    Raises:
        BadMeta: the name leads out of the dataset's folder.
    """
    name = template.format(**place)
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise BadMeta(f"{INFO} names the file {name!r}, which leads out of the dataset's folder")
    return name


def _v3_tasks(folder: Path) -> dict[int, str]:
    """The instructions: in the column ``task``, in the table's index as pandas names it, or in the only column of text.
    Other texts beside ``task``, such as a category, are ignored.
    """
    import pyarrow.parquet as pq
    import pyarrow.types as types

    with local_file(folder / "meta/tasks.parquet") as here, pq.ParquetFile(here) as file:
        table = file.read()
    kinds = {f.name: f.type.value_type if types.is_dictionary(f.type) else f.type for f in table.schema}
    texts = [name for name, kind in kinds.items() if types.is_string(kind) or types.is_large_string(kind)]
    named = [name for name in texts if name in TASK_COLUMNS]
    if not named and len(texts) != 1:
        raise BadMeta(
            f"{folder.name}/meta/tasks.parquet must have a column {' or '.join(TASK_COLUMNS)}, or one column of text, "
            f"found {', '.join(texts) or 'none'}"
        )
    column = min(named, key=TASK_COLUMNS.index) if named else texts[0]
    return dict(zip(table["task_index"].to_pylist(), table[column].to_pylist(), strict=True))


def _lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects, one per line; a byte-order mark and the line ends of other systems are accepted."""
    return [json.loads(line) for line in path.read_bytes().decode("utf-8-sig").split("\n") if line.strip()]


def _plain(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())
