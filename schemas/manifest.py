"""The manifest: the last file that a build writes. Its presence alone shows that the shards are complete.

A folder of shards holds ``manifest.json``, the shards it names, ``statistics.json`` (of states and actions) and
``episodes.jsonl`` (the outcome of every episode). The manifest holds the SHA-256 of each of them, and as
``sha256`` that of the canonical JSON of everything else in it.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas.files import canonical_json, digest_of, inside, sha256_of, write_whole
from schemas.locations import StorePath
from schemas.shard_formats import ShardFile

NAME = "manifest.json"
EPISODES = "episodes.jsonl"
STATISTICS = "statistics.json"
VERSION = 1


class BadManifest(ValueError):
    """The manifest is missing, unreadable or names something that is not allowed."""


@dataclass(frozen=True)
class Manifest:
    """The contents of ``manifest.json``.

    Attributes:
        dataset: name, version, licence and credit of the source (``schemas.episode.DatasetInfo``).
        recipe: everything that decides the samples' bytes: plug-ins, thresholds, windows.
        recipe_digest: SHA-256 of the recipe.
        format: the shard format's name.
        layout: what else decides the position of each sample: samples per shard, the seed of their order, and which
            episodes were chosen.
        shards: in order; samples are numbered through them.
        samples: total number.
        counts: ``kept``, and ``rejected`` and ``quarantined`` by reason.
        files: SHA-256 of the other files by name.
        licences: of the dataset and of each plug-in with terms of its own, by name.
    """

    dataset: dict[str, str]
    recipe: dict[str, Any]
    recipe_digest: str
    format: str
    shards: list[ShardFile]
    samples: int
    counts: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    layout: dict[str, Any] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    version: int = VERSION

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` atomically.

        Raises:
            FileExistsError: in a store, where another build has written one meanwhile.
        """
        path, values = folder / NAME, asdict(self)
        if not isinstance(path, StorePath):
            write_sealed(path, values)
        elif not path.put_if_absent(sealed(values)):
            raise FileExistsError(17, "there is one already", str(path))


def read_manifest(path: Path) -> Manifest:
    """The manifest of a folder of shards (give the folder or the file).

    Raises:
        BadManifest: it is missing, unreadable, of a later version or names a file outside its folder.
    """
    path = path / NAME if is_folder(path) else path
    with told(path, "manifest of shards", "the build has not finished, or this is no folder of shards"):
        values = read_sealed(path, VERSION)
        manifest = Manifest(**{**values, "shards": [ShardFile(**s) for s in values["shards"]]})
    for name in [s.name for s in manifest.shards] + list(manifest.files):
        try:
            inside(path.parent, name)
        except ValueError as error:
            raise BadManifest(f"{path} is refused: {error}") from error
    return manifest


def is_folder(path: Path) -> bool:
    """Whether a path is that of a folder and not of a file in it; a URL is one unless it names a file of JSON, as a web
    server may not say what a folder holds."""
    return path.suffix != ".json" if isinstance(path, StorePath) else path.is_dir()


def folder_of(path: Path) -> Path:
    """The folder of a build or mixture, of which the folder or its JSON file is given."""
    return path if is_folder(path) else path.parent


def write_sealed(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file atomically, with the SHA-256 of its contents in it."""
    write_whole(path, sealed(values))


def sealed(values: dict[str, Any]) -> bytes:
    """The bytes that ``write_sealed`` writes."""
    whole = {**values, "sha256": digest_of(values)}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def read_sealed(path: Path, version: int) -> dict[str, Any]:
    """Read a file written by ``write_sealed``, of at most this version; call it within ``told``.

    Raises:
        BadManifest: it is of a later version, or not what was written.
    """
    values = json.loads(path.read_bytes())
    digest, found = values.pop("sha256"), int(values["version"])
    if found > version:
        raise BadManifest(f"{path} has version {found}, this program reads up to {version}")
    if digest != digest_of(values):
        raise BadManifest(f"{path} is not what was written: its SHA-256 differs")
    return values


@contextlib.contextmanager
def told(path: Path, what: str, missing: str) -> Iterator[None]:
    """Convert the errors of reading JSON of unknown origin to ``BadManifest``.

    Args:
        what: what the file should be.
        missing: why it may be missing.

    Raises:
        BadManifest: the block could not read it.
    """
    try:
        yield
    except FileNotFoundError:
        raise BadManifest(f"{path} does not exist: {missing}") from None
    except BadManifest:
        raise
    except KeyError as error:
        raise BadManifest(f"{path} is no {what}: it lacks {error}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadManifest(f"{path} is no {what}: {error}") from error


def read_statistics(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """``statistics.json``: for ``state`` and ``action``, lists ``min``, ``max``, ``mean``, ``std``, ``q01``, ``q99``.

    Raises:
        BadManifest: it is missing or not the file that was written.
    """
    path = folder / STATISTICS
    if not path.is_file():
        raise BadManifest(f"{path} is missing")
    if sha256_of(path) != manifest.files.get(STATISTICS):
        raise BadManifest(f"{path} is not the file that the manifest names: its SHA-256 differs")
    return json.loads(path.read_bytes())


def write_statistics(folder: Path, statistics: dict[str, Any]) -> None:
    """Write ``statistics.json`` atomically."""
    write_whole(folder / STATISTICS, canonical_json(statistics) + b"\n")
