"""Finds the shards at a path: a shard, a folder of shards, or a manifest."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from schemas.manifest import NAME as MANIFEST_NAME
from schemas.manifest import BadManifest, Manifest, read_manifest
from schemas.mixture import is_mixture, member_folder, read_mixture
from schemas.shard_formats import FORMATS, CorruptShard, Shard, open_shard, shards_in


class CannotInspect(Exception):
    """There is nothing to inspect; the message is one sentence for the user.

    Attributes:
        exit_code: 2 when the command was wrong, 1 when the data at the path is damaged.
    """

    def __init__(self, message: str, exit_code: int = 2):
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Finding:
    """A difference between the data and what the build recorded.

    Attributes:
        file: the file, as a user would name it.
        problem: what is wrong, as a sentence.
        sample: the sample's key, if the fault is in a sample.
    """

    file: str
    problem: str
    sample: str | None = None


@dataclass
class Collection:
    """Shards to inspect, with the findings and notes so far.

    Attributes:
        path: the path that the user gave.
        folder: the folder of the shards.
        manifest: None when the build has not finished, or when it does not name the requested shard.
        shards: paths in order; those that the manifest names, whether or not they exist.
        whole: whether the whole set is inspected, not one shard of it.
    """

    path: Path
    folder: Path
    manifest: Manifest | None
    shards: list[Path]
    whole: bool
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def opened(self) -> Iterator[tuple[int, Shard]]:
        """Each shard that can be opened, one at a time, with its number; the others are added to the findings once."""
        known = {(f.file, f.problem) for f in self.findings}
        for number, path in enumerate(self.shards):
            try:
                shard = open_shard(path)
            except (CorruptShard, ValueError, OSError) as error:
                finding = Finding(str(path), _said_of(path, error))
                if (finding.file, finding.problem) not in known:
                    self.findings.append(finding)
                continue
            try:
                yield number, shard
            finally:
                shard.close()


def sets_at(path: Path) -> list[Path]:
    """The sets of shards at a path: the path itself, a mixture's members or, if the folder holds no shards, the
    finished builds in its subfolders.

    Raises:
        CannotInspect: the mixture is damaged.
    """
    if is_mixture(path):
        try:
            return [member_folder(path, member) for member in read_mixture(path).members]
        except BadManifest as error:
            raise CannotInspect(str(error), 1) from None
    holds_none = path.is_dir() and not (path / MANIFEST_NAME).exists() and next(iter(shards_in(path)), None) is None
    inside = sorted(p.parent for p in path.glob(f"*/{MANIFEST_NAME}")) if holds_none else []
    return inside or [path]


def open_collection(path: Path) -> Collection:
    """Find the shards at a path, without reading them.

    Raises:
        CannotInspect: the path does not exist, holds no shards, or is a single file that is no manifest.
    """
    suffixes = shard_suffixes()
    if not path.exists():
        raise CannotInspect(
            f"{path} does not exist: give a shard ({' or '.join(suffixes)}), a folder of shards or a manifest"
        )
    if path.name.endswith(suffixes):
        return _single_shard(path)
    if path.is_dir():
        return _folder(path)
    if path.name.endswith(".json"):
        try:
            manifest = read_manifest(path)
        except BadManifest as error:
            raise CannotInspect(str(error), 1) from None
        return _finished(path, path.parent, manifest)
    raise CannotInspect(
        f"{path} is neither a shard ({' or '.join(suffixes)}) nor a folder of shards nor a {MANIFEST_NAME}"
    )


def shard_suffixes() -> tuple[str, ...]:
    """Name suffixes of shards, over all formats."""
    return tuple(FORMATS.values())


def _single_shard(path: Path) -> Collection:
    try:
        open_shard(path).close()
    except (CorruptShard, ValueError, OSError) as error:
        raise CannotInspect(
            f"{path} cannot be read as a shard of lamp-data build: {_said_of(path, error)}",
            1,
        ) from None
    manifest, notes = None, []
    try:
        manifest = read_manifest(path.parent)
    except BadManifest as error:
        notes.append(
            f"no {MANIFEST_NAME} beside it, so dataset, licence and SHA-256 are not known"
            if not (path.parent / MANIFEST_NAME).exists()
            else str(error)
        )
    if manifest and path.name not in {s.name for s in manifest.shards}:
        notes.append(f"{path.parent / MANIFEST_NAME} does not name this shard")
        manifest = None
    return Collection(path, path.parent, manifest, [path], whole=False, notes=notes)


def _folder(path: Path) -> Collection:
    if not (path / MANIFEST_NAME).exists():
        shards = list(shards_in(path))
        if not shards:
            raise CannotInspect(
                f"{path} holds no shards: expected {MANIFEST_NAME} or files ending in {' or '.join(shard_suffixes())}; "
                "`lamp-data build` makes them"
            )
        note = f"no {MANIFEST_NAME}: the build has not finished, and SHA-256 cannot be checked"
        return Collection(path, path, None, shards, whole=True, notes=[note])
    try:
        manifest = read_manifest(path)
    except BadManifest as error:
        finding = Finding(str(path / MANIFEST_NAME), _said_of(path / MANIFEST_NAME, error))
        return Collection(path, path, None, list(shards_in(path)), whole=True, findings=[finding])
    return _finished(path, path, manifest)


def _finished(path: Path, folder: Path, manifest: Manifest) -> Collection:
    named = [s.name for s in manifest.shards]
    notes = [
        f"{p.name} lies in the folder, but the manifest does not name it"
        for p in shards_in(folder)
        if p.name not in named
    ]
    return Collection(path, folder, manifest, [folder / name for name in named], whole=True, notes=notes)


def _said_of(path: Path, error: Exception) -> str:
    """The error's message without the path, which is shown beside it."""
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
