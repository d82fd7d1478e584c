"""The manifest of a published checkpoint: name, size and SHA-256 of each file."""

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lamp_model.errors import BadCheckpoint
from lamp_model.published import MANIFEST, OWN
from lamp_model.storage.run_folder import BACKBONE
from schemas.errors import first_line

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Listed:
    """A manifest's entry for a file."""

    size: int
    sha256: str


def read_published_manifest(path: Path) -> dict[str, Listed]:
    """Read a manifest's entries, by name. Files beside it have plain names; those in ``backbone/`` are in its section
    ``lamp``.

    Raises:
        BadCheckpoint: it is damaged, lists nothing, lacks a size or a SHA-256, or names a file elsewhere.
    """
    try:
        manifest = json.loads(path.read_bytes())
        published = [*manifest.get("files", []), *filter(None, [manifest.get("checkpoint")])]
        own = manifest.get(OWN, {}).get("files", [])
        listed: dict[str, Listed] = {}
        for within, record in (*((False, r) for r in published), *((True, r) for r in own)):
            name, found = record["name"], Listed(record["size"], str(record["sha256"]).lower())
            plain = PurePosixPath(name)
            fits = plain.parts[:1] == (BACKBONE,) and len(plain.parts) > 1 if within else len(plain.parts) == 1
            if not fits or ".." in plain.parts or "\\" in name or name != plain.as_posix():
                raise BadCheckpoint(f"{path} lists {name!r}, which is no plain file name")
            if not _SHA256.fullmatch(found.sha256) or type(found.size) is not int:
                raise BadCheckpoint(f"{path} must give the size and the SHA-256 of {name}, found {dict(record)}")
            if listed.get(name, found) != found:
                raise BadCheckpoint(f"{path} says two different things of {name}")
            listed[name] = found
    except KeyError as error:
        raise BadCheckpoint(
            f"{path} is no manifest of a checkpoint: a file in it lacks {error}; name, size and sha256 are needed"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(f"{path} is no manifest of a checkpoint: {first_line(error)}") from error
    if not listed:
        raise BadCheckpoint(f"{path} is no manifest of a checkpoint: it lists no file")
    return listed


def check_size(file: Path, listed: Listed) -> None:
    """Check a file's size against the manifest.

    Raises:
        BadCheckpoint: it differs.
    """
    if file.stat().st_size != listed.size:
        raise BadCheckpoint(
            f"{file} has {file.stat().st_size} bytes, its {MANIFEST} says {listed.size}: fetch it again"
        )


def differs(file: Path) -> BadCheckpoint:
    """The error for a file whose SHA-256 differs."""
    return BadCheckpoint(f"{file} is not what was published: its SHA-256 differs from that in {MANIFEST}")
