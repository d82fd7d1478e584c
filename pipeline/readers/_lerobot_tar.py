"""LeRobot datasets packed in ``*.tar.gz``: listed and read as if they were unpacked in the same place."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import UnreadableSource
from pipeline.formats.archive_cache import ArchiveCache, Lease
from pipeline.formats.archives import archive_key, is_archive
from pipeline.formats.discovery import Lister, find_forms
from pipeline.formats.ref_paths import path_of
from schemas.episode import BadEpisode, CameraView, Episode, EpisodeRef

GIGABYTE = 10**9


@dataclass(frozen=True)
class CacheConfig:
    """Where packed datasets are unpacked to be read.

    Attributes:
        cache: a folder on a disk of this machine; by default ``lamp/archives`` in the user's cache folder.
        cache_gb: it holds at most so much, or one archive for each worker.
    """

    cache: str = field(default="", metadata={"place": True})
    cache_gb: float = field(default=100.0, metadata={"place": True})

    def __post_init__(self) -> None:
        if self.cache_gb <= 0:
            raise ValueError(f"cache_gb must be above 0, found {self.cache_gb:g}")

    def open_cache(self) -> ArchiveCache:
        """The cache; this writes nothing yet."""
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = Path(self.cache) if self.cache else home / "lamp" / "archives"
        return ArchiveCache(folder, int(self.cache_gb * GIGABYTE))


def list_packed(
    cache: ArchiveCache, lister: Lister, root: Path, archive: Path
) -> Iterator[EpisodeRef | UnreadableSource]:
    """The episodes of the LeRobot folders in an archive. Each refused member is reported.

    Args:
        lister: lists unpacked LeRobot folders.
        root: the dataset's folder, to which sources are relative.
    """
    within = archive.relative_to(root).as_posix()
    try:
        key = archive_key(archive)
        folder, result = cache.skeleton(archive)
    except OSError as error:
        yield UnreadableSource(within, "unreadable_file", f"{within} cannot be unpacked: {error.strerror or error}")
        return
    for code, said in result.refused:
        yield UnreadableSource(within, code, f"{within}: {said}")
    if result.damage is not None:
        yield UnreadableSource(
            within, "damaged_archive", f"{within} is damaged after {result.files} files: {result.damage}"
        )
    if not result.sound:
        return
    found = [part for form, part in find_forms(folder) if form == "lerobot"]
    if not found and not result.refused and result.damage is None:
        yield UnreadableSource(
            within, "foreign_archive", f"{within} holds no LeRobot folder (none with meta/info.json)"
        )
    for part in found:
        for listed in lister(folder, part):
            source = f"{within}/{listed.source}"
            if isinstance(listed, EpisodeRef):
                yield dataclasses.replace(listed, source=source, path=str(archive), fingerprint=key)
            else:
                yield UnreadableSource(source, listed.code, f"{within}: {listed.message}")


def is_packed(ref: EpisodeRef) -> bool:
    """Whether an episode is stored in an archive."""
    return is_archive(ref.path)


def read_packed(cache: ArchiveCache, ref: EpisodeRef, read: Callable[[EpisodeRef], Episode]) -> Episode:
    """Read an episode from an archive, which stays unpacked as long as the episode's frames can be read.

    Args:
        read: reads an unpacked episode.

    Raises:
        BadEpisode: the archive cannot be unpacked, or what ``read`` raises.
    """
    archive = path_of(ref)
    inner = ref.source.split(f"{archive.name}/", 1)[1]
    try:
        lease = cache.lease(archive)
    except OSError as error:
        said = f"{archive.name} cannot be unpacked into {cache.folder}: {error.strerror or error}"
        raise BadEpisode("unreadable_episode", f"{ref.name}: {said}") from error
    episode = read(dataclasses.replace(ref, path=str(lease.folder / inner)))
    return dataclasses.replace(episode, ref=ref, views={n: _held(view, lease) for n, view in episode.views.items()})


def _held(view: CameraView, lease: Lease) -> CameraView:
    some = lease.during(view.read_some) if view.read_some is not None else None
    return dataclasses.replace(view, read_frames=lease.during(view.read_frames), read_some=some)
