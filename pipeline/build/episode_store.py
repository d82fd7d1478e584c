"""Stored episodes: the results of a build's first step, from which the second packs shards. Named by content.

A stored episode is a tar shard of its samples, a file of its values for the statistics, and a report. Its name is the
digest of the recipe, the episode, its file's fingerprint and the versions of the libraries that affect pixels, so
making it again gives the same contents. The report is renamed into place last: if it exists, the stored episode is
complete.
"""

import contextlib
import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from pathlib import Path
from typing import Any

from pipeline.recipe import Recipe
from schemas import sample_metadata
from schemas.episode import BadEpisode, EpisodeRef
from schemas.files import canonical_json, digest_of, write_whole
from schemas.locations import StorePath
from schemas.parallel import in_parallel
from schemas.shard_formats import webdataset

EPISODE_VERSION = 7
"""Raised when the same recipe comes to give other samples: a build does not mix them."""
VALUES_SUFFIX = ".values.npz"
MOST_KEPT = 1024
LIBRARIES = ("numpy", "opencv-python-headless", "numcodecs", "simplejpeg", "av")

Region = tuple[str, str, bytes]
"""Key, episode digest and bytes of a sample."""


@dataclass(frozen=True)
class EpisodeReport:
    """The report of a stored episode.

    Attributes:
        key: the stored episode's name.
        ref: dataset, source and episode it was made from, without this machine's paths.
        frames: frames read.
        rejected_windows: camera, frame, reason and measure (``schemas.triplet.Rejected``) of each window not kept.
        rows: key, offset and size of each sample in the stored tar.
        embodiment: name and dimensions of state and actions.
        value_bytes: size of the file of values for the statistics (``pipeline.build.statistics``).
        notes: the reader's notes on the episode.
        skipped_cameras: why cameras were skipped, by name, where all cameras were chosen.
        relative_depth: samples whose depth has no known scale.
        seconds: time spent by stage; not written to the output.
        device: the kind of device that ran models (``schemas.devices.kind_of_device``); None where there is no model.
    """

    key: str
    ref: dict[str, str]
    episode: str
    frames: int
    instructions: list[str]
    success: bool | None
    rejected_windows: list[tuple[str, int, str, float | None]]
    rows: list[tuple[str, int, int]]
    embodiment: dict[str, Any] = field(default_factory=dict)
    value_bytes: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    skipped_cameras: dict[str, str] = field(default_factory=dict)
    relative_depth: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    device: str | None = None

    @property
    def rejected(self) -> dict[str, int]:
        """Windows not kept, by reason."""
        return dict(sorted(Counter(reason for _, _, reason, _ in self.rejected_windows).items()))


@dataclass(frozen=True)
class Quarantined:
    """An episode (or a whole file) that could not be used."""

    source: str
    episode: str
    code: str
    message: str

    @property
    def absent(self) -> bool:
        """Whether its files are missing, as after a download of some episodes only."""
        return self.code in ("missing_episodes", "missing_file", "missing_files", "missing_video")

    @classmethod
    def of(cls, ref: EpisodeRef, error: BadEpisode) -> "Quarantined":
        """A quarantined episode with its reason; the message includes its name."""
        named = error.message if error.message.startswith(ref.name) else f"{ref.name}: {error.message}"
        return cls(ref.source, ref.episode, error.code, named)


@dataclass(frozen=True)
class LeftOut:
    """A usable episode that the selection excludes."""

    source: str
    episode: str
    reason: str


def episode_key(recipe: Recipe, ref: EpisodeRef) -> str:
    """The name under which an episode is stored."""
    identity = [
        EPISODE_VERSION,
        sample_metadata.WITH_FLOW,
        recipe.digest,
        ref.dataset,
        ref.source,
        ref.episode,
        ref.fingerprint,
        library_versions(recipe),
    ]
    return digest_of(identity)


def library_versions(recipe: Recipe) -> dict[str, str]:
    """The installed versions of the libraries that affect pixels."""
    return _versions(recipe.libraries)


@cache
def _versions(of_plugins: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in (*LIBRARIES, *of_plugins):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # the plug-in's own check reports what to install
            found[name] = "none"
    return found


def samples_path(folder: Path, key: str) -> Path:
    """Path of a stored episode's samples; episodes are spread over 256 folders."""
    return folder / key[:2] / f"{key}{webdataset.SUFFIX}"


def values_path(folder: Path, key: str) -> Path:
    """Path of a stored episode's states and actions."""
    return folder / key[:2] / f"{key}{VALUES_SUFFIX}"


@dataclass(frozen=True)
class MadeEpisode:
    """An episode's samples and report, in memory; ``values`` are the bytes of its file for the
    statistics.
    """

    report: EpisodeReport
    regions: list[Region]
    values: bytes


def rows_of(regions: list[Region]) -> list[tuple[str, int, int]]:
    """Key, offset and size of each sample, stored one after the other."""
    ends = accumulate(len(data) for _, _, data in regions)
    return [(key, end - len(data), len(data)) for (key, _, data), end in zip(regions, ends, strict=True)]


def write_episode(folder: Path, made: MadeEpisode) -> None:
    """Store an episode: its samples, its values, and last its report, which marks it complete.

    Raises:
        OSError: it cannot be written.
    """
    report = made.report
    webdataset.write_regions(samples_path(folder, report.key).parent, report.key, made.regions)
    write_whole(values_path(folder, report.key), made.values)
    write_whole(_report_path(folder, report.key), canonical_json(asdict(report)))


def stored_report(folder: Path, key: str) -> EpisodeReport | None:
    """The report of a completely stored episode, or None. Its samples must exist too: they are missing where a
    removal was interrupted.
    """
    read, size_of = _access(folder)
    stem = f"{key[:2]}/{key}"
    try:
        values = json.loads(read(f"{stem}.json"))
        rows = [tuple(row) for row in values["rows"]]
        report = EpisodeReport(**{**values, "rows": rows, **_shared(**values)})
        whole = size_of(stem + webdataset.SUFFIX) == sum(row[2] for row in rows) + 2 * webdataset.BLOCK
        whole &= size_of(stem + VALUES_SUFFIX) == report.value_bytes
        whole &= size_of(stem + webdataset.INDEX_SUFFIX) > 0
    except (FileNotFoundError, ValueError, TypeError, KeyError, IndexError):
        return None
    return report if whole else None


def _access(folder: Path) -> tuple[Callable[[str], bytes], Callable[[str], int]]:
    """Functions that read a file below a folder and give its size, by its name. On this machine they make no ``Path``,
    which would take most of the time of a resume.
    """
    if isinstance(folder, StorePath):
        return lambda name: (folder / name).read_bytes(), lambda name: (folder / name).stat().st_size
    base = os.fspath(folder)

    def read(name: str) -> bytes:
        with open(f"{base}/{name}", "rb", buffering=0) as file:
            return file.readall()

    return read, lambda name: os.stat(f"{base}/{name}").st_size


def stored_keys(folder: Path) -> set[str]:
    """The names of the stored episodes. Folders are listed and no file is opened, so that it takes about a second for
    100,000 episodes; ``stored_report`` looks whether one is whole.
    """
    if isinstance(folder, StorePath):
        return {path.name.removesuffix(".json") for path in folder.files_below() if path.name.endswith(".json")}
    found: set[str] = set()
    for below in os.scandir(folder) if folder.is_dir() else ():
        if below.is_dir():
            with os.scandir(below.path) as files:
                found.update(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))
    return found


def slim(report: EpisodeReport) -> EpisodeReport:
    """The report with values that many episodes have in common kept once for all, and without its times: a driver holds
    the reports of all episodes.
    """
    return replace(report, **_shared(report.embodiment, report.instructions, report.rejected_windows))


def _shared(embodiment: Any, instructions: Any, rejected_windows: Any, **_: Any) -> dict[str, Any]:
    """The fields of ``slim``."""
    return {
        "embodiment": _kept_once(embodiment),
        "instructions": _kept_once(instructions),
        "rejected_windows": [(sys.intern(c), f, sys.intern(reason), m) for c, f, reason, m in rejected_windows],
        "seconds": {},
    }


_kept: dict[str, Any] = {}


def _kept_once(value: Any) -> Any:
    """An equal value, as JSON gives it, which is the same object for all."""
    key = repr(value)
    if (kept := _kept.get(key)) is None:
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        kept = _kept[key] = json.loads(canonical_json(value))
    return kept


def stored_reports(folder: Path, keys: Sequence[str]) -> dict[str, EpisodeReport | None]:
    """``stored_report`` of each key."""
    with uncollected():
        return dict(zip(keys, in_parallel(partial(stored_report, folder), keys, folder), strict=True))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Python's search for unreachable cycles is off in the block, which makes millions of small objects and no cycle:
    the search would look through all of them again and again.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _report_path(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.json"
