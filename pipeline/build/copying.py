"""Copies a build, or a mixture of builds, from one place to another and verifies every checksum of its manifest.

A copy that was interrupted goes on with what is missing. Files appear whole or not at all, the manifest last, and a
build that the target holds already is not replaced.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.build.executor import Progress
from pipeline.build.store_lock import check_held
from pipeline.build.work_folder import WORK, locked
from schemas.files import pieces_of, sha256_of, write_whole, written_whole
from schemas.locations import StorePath
from schemas.manifest import NAME, Manifest, read_manifest
from schemas.mixture import NAME as MIXTURE
from schemas.mixture import is_mixture, member_folder, read_mixture
from schemas.parallel import in_parallel
from schemas.shard_formats import ShardFile, shard_digests
from schemas.shard_formats.webdataset import index_path


class WouldReplaceBuild(Exception):
    """The target holds something else already; the message says what."""


class Damaged(Exception):
    """A file is not what its build wrote; the message names it."""


@dataclass(frozen=True)
class CopiedFile:
    """A file of a build.

    Attributes:
        name: within the build's folder.
        sha256: of its bytes; None for a file of a zarr shard, which is checked with its folder.
        size: bytes, or None where the manifest does not say.
    """

    name: str
    sha256: str | None
    size: int | None = None


@dataclass
class CopySummary:
    """What a copy did.

    Attributes:
        copied, bytes: files that were copied, and their bytes.
        there: files that the target had already.
        damaged: a sentence for each file of the source that is not what was written.
    """

    copied: int = 0
    bytes: int = 0
    there: int = 0
    damaged: list[str] = field(default_factory=list)

    def add(self, other: "CopySummary") -> None:
        """Count another copy too."""
        self.copied, self.bytes, self.there = (
            self.copied + other.copied,
            self.bytes + other.bytes,
            self.there + other.there,
        )
        self.damaged += other.damaged


def copy_builds(source: Path, target: Path, verify: bool, progress: Progress) -> CopySummary:
    """Copy a build or a mixture.

    Args:
        verify: read what was written again, and what the target had already, and compare its SHA-256. The source's
            bytes are compared in any case.

    Raises:
        BadManifest: the source is no finished build or mixture.
        WouldReplaceBuild: the target holds another one.
        BuildError: a build works in the target.
        OSError, StoreFailed: a place cannot be read or written.
    """
    if not is_mixture(source):
        return copy_build(source, target, verify, progress)
    mixture, summary = read_mixture(source), CopySummary()
    _check_same(source / MIXTURE, target / MIXTURE, f"{target} holds another mixture")
    for member in mixture.members:
        summary.add(copy_build(member_folder(source, member), target / member.folder, verify, progress))
    if not summary.damaged:
        _copy_small(source / MIXTURE, target / MIXTURE)
    return summary


def copy_build(source: Path, target: Path, verify: bool, progress: Progress) -> CopySummary:
    """Copy one build; see ``copy_builds``."""
    manifest = read_manifest(source)
    _check_same(source / NAME, target / NAME, f"{target} holds another build")
    summary = CopySummary()
    with locked(target):
        files = list(_files(manifest, source))
        done = in_parallel(partial(_copied, source, target, verify), files, target if _stored(target) else source)
        for _, outcome in progress("files", len(files), zip(files, done, strict=True)):
            summary.add(outcome)
        for shard in _folders(manifest):
            if shard_digests(target / shard.name)[0] != shard.sha256:
                summary.damaged.append(f"{source / shard.name} is not the shard that was written: its SHA-256 differs")
        if not summary.damaged:
            check_held(target / WORK)
            _copy_small(source / NAME, target / NAME)
    return summary


def _stored(path: Path) -> bool:
    return isinstance(path, StorePath)


def _check_same(source: Path, target: Path, said: str) -> None:
    """Refuse a target that holds something else."""
    if target.is_file() and target.read_bytes() != source.read_bytes():
        raise WouldReplaceBuild(f"{said} ({target} differs): choose another place, or remove it")


def _copy_small(source: Path, target: Path) -> None:
    """Copy a manifest; one that another copy has written meanwhile is the same one."""
    if not target.is_file():
        write_whole(target, source.read_bytes())


def _folders(manifest: Manifest) -> list[ShardFile]:
    """Shards that are folders."""
    return [shard for shard in manifest.shards if not shard.index_sha256]


def _files(manifest: Manifest, source: Path) -> Iterator[CopiedFile]:
    for shard in manifest.shards:
        if shard.index_sha256:
            yield CopiedFile(shard.name, shard.sha256, shard.bytes)
            yield CopiedFile(index_path(Path(shard.name)).name, shard.index_sha256)
        else:
            folder = source / shard.name
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                yield CopiedFile(path.relative_to(source).as_posix(), None, path.stat().st_size)
    for name, sha256 in sorted(manifest.files.items()):
        yield CopiedFile(name, sha256)


def _copied(source: Path, target: Path, verify: bool, file: CopiedFile) -> CopySummary:
    """Copy one file, unless the target has it."""
    there, here = target / file.name, source / file.name
    try:
        if _stands(there, here, file, verify):
            return CopySummary(there=1)
        size, found = _stream(here, there, file.sha256)
        if verify and sha256_of(there) != found:
            raise Damaged(f"{there} does not hold what was written to it: its SHA-256 differs")
        return CopySummary(copied=1, bytes=size)
    except FileNotFoundError as error:
        if error.filename is not None and str(error.filename) == str(here):
            return CopySummary(damaged=[f"{here} is missing, the manifest names it"])
        raise
    except Damaged as error:
        return CopySummary(damaged=[str(error)])


def _stands(there: Path, here: Path, file: CopiedFile, verify: bool) -> bool:
    """Whether the target has a file already."""
    if not there.is_file():
        return False
    size = here.stat().st_size if file.size is None else file.size
    if there.stat().st_size != size:
        return False
    return not verify or sha256_of(there) == (file.sha256 or sha256_of(here))


def _stream(here: Path, there: Path, sha256: str | None) -> tuple[int, str]:
    """Copy a file piece by piece; its size and SHA-256.

    Raises:
        Damaged: it has another SHA-256; nothing is written then.
    """
    digest, size = hashlib.sha256(), 0
    with written_whole(there) as file:
        for piece in pieces_of(here):
            digest.update(piece)
            file.write(piece)
            size += len(piece)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise Damaged(f"{here} is not the file that was written: its SHA-256 differs from the manifest")
    return size, digest.hexdigest()


def copy_files(source: Path, target: Path, progress: Progress) -> CopySummary:
    """Copy a folder that is no build, such as a dataset's own, or one file. Files of the same size are taken as copied,
    as there is no checksum to compare.

    Raises:
        OSError, StoreFailed: a place cannot be read or written.
    """
    alone = source.is_file()
    names = [""] if alone else sorted(p.relative_to(source).as_posix() for p in _visible(source))
    if not names:
        raise FileNotFoundError(2, "there is nothing to copy", str(source))

    def copied(name: str) -> CopySummary:
        here, there = (source / name, target / name) if name else (source, target)
        if there.is_file() and there.stat().st_size == here.stat().st_size:
            return CopySummary(there=1)
        return CopySummary(copied=1, bytes=_stream(here, there, None)[0])

    summary = CopySummary()
    done = in_parallel(copied, names, target if _stored(target) else source)
    for _, outcome in progress("files", len(names), zip(names, done, strict=True)):
        summary.add(outcome)
    return summary


def _visible(folder: Path) -> Iterable[Path]:
    return (p for p in folder.rglob("*") if p.is_file() and WORK not in p.relative_to(folder).parts)
