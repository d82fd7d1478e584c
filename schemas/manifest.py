"""The manifest: the last file that a build writes, and the only sign that its shards are complete.

A folder of shards holds ``manifest.json``, the shards it names, ``statistics.json`` (of states and actions) and
``episodes.jsonl`` (what became of every episode). The manifest holds the SHA-256 of every one of them, and as
``sha256`` that of the canonical JSON of everything else in it.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas.files import canonical_json, digest_of, inside, sha256_of, write_whole
from schemas.shard_formats import ShardFile

NAME = "manifest.json"
EPISODES = "episodes.jsonl"
STATISTICS = "statistics.json"
VERSION = 1


class BadManifest(ValueError):
    """The manifest is missing, unreadable or names what it must not."""


@dataclass(frozen=True)
class Manifest:
    """What stands in ``manifest.json``.

    Attributes:
        dataset: name, version, licence and credit of the source (``schemas.episode.DatasetInfo``).
        recipe: everything that decides the samples' bytes: plug-ins, thresholds, windows.
        recipe_digest: SHA-256 of the recipe.
        format: the shard format's name.
        layout: what else decides which sample stands where: samples per shard, the seed of their order, and which
            episodes were chosen.
        shards: in order; samples are numbered through them.
        samples: how many in all.
        counts: ``kept``, and ``rejected`` and ``quarantined`` by reason.
        files: SHA-256 of the other files by name.
        licences: of the dataset and of everything that made the samples and has terms of its own, by what it is.
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
        """Write ``manifest.json`` whole."""
        write_sealed(folder / NAME, asdict(self))


def read_manifest(path: Path) -> Manifest:
    """The manifest of a folder of shards (give the folder or the file).

    Raises:
        BadManifest: it is missing, unreadable, of a later version or names a file outside its folder.
    """
    path = path / NAME if path.is_dir() else path
    with told(path, "manifest of shards", "the build has not finished, or this is no folder of shards"):
        values = read_sealed(path, VERSION)
        manifest = Manifest(**{**values, "shards": [ShardFile(**s) for s in values["shards"]]})
    for name in [s.name for s in manifest.shards] + list(manifest.files):
        try:
            inside(path.parent, name)
        except ValueError as error:
            raise BadManifest(f"{path} is refused: {error}") from error
    return manifest


def write_sealed(path: Path, values: dict[str, Any]) -> None:
    """Write a file of JSON whole, with the SHA-256 of everything in it."""
    sealed = {**values, "sha256": digest_of(values)}
    write_whole(path, json.dumps(sealed, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n")


def read_sealed(path: Path, version: int) -> dict[str, Any]:
    """What ``write_sealed`` was given, up to a version of it; called within ``told``.

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
    """Turns what reading JSON of unknown origin raises into a sentence.

    Args:
        what: the file should be.
        missing: why it may not be there.

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
    """Write ``statistics.json`` whole."""
    write_whole(folder / STATISTICS, canonical_json(statistics) + b"\n")
