"""Files of a published checkpoint: found, checked against the manifest and read without running anything."""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lamp_model.checkpoints import BadCheckpoint
from lamp_model.published import CONFIG, MANIFEST, STATISTICS
from schemas.files import sha256_of

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")
"""OWNER/NAME, or OWNER/NAME@REVISION."""


@dataclass(frozen=True)
class PublishedFiles:
    """Where a checkpoint's files are; those that are named exist."""

    folder: Path
    weights: Path

    @property
    def config(self) -> Path:
        """``config.yaml``."""
        return self.folder / CONFIG

    @property
    def statistics(self) -> Path:
        """``dataset_statistics.json``; a file of motion weights may lack it."""
        return self.folder / STATISTICS


def is_published(source: str | Path) -> bool:
    """Whether a path looks like a published checkpoint, or a text like its name on the hub."""
    path = Path(source)
    if path.is_dir():
        return (path / CONFIG).is_file() or any(path.glob("*.pt"))
    # Where the folder above exists, the name is a mistyped path and not a name on the hub.
    is_hub_id = isinstance(source, str) and HUB_ID.fullmatch(source) and not path.parent.exists()
    return path.suffix == ".pt" or bool(is_hub_id)


def find(source: str | Path, needs_statistics: bool = True) -> PublishedFiles:
    """The files of a checkpoint: a folder, a ``.pt`` in one, or a name on the Hugging Face hub, which is downloaded; ``@COMMIT`` after
    the name pins it.

    Raises:
        BadCheckpoint: a file is missing, there is more than one ``.pt``, the manifest does not agree, or the download failed.
    """
    path = Path(source)
    folder = path if path.is_dir() else _folder_of(path) if path.suffix == ".pt" else _downloaded(str(source))
    if path.suffix == ".pt" and not path.is_dir():
        weights = path
        if not weights.is_file():
            raise BadCheckpoint(f"{weights} does not exist")
    else:
        found = sorted(folder.glob("*.pt"))
        if len(found) != 1:
            names = ", ".join(f.name for f in found) or "none"
            raise BadCheckpoint(f"{folder} must hold exactly one .pt file, found {names}")
        weights = found[0]
    for name in (CONFIG, STATISTICS) if needs_statistics else (CONFIG,):
        if not (folder / name).is_file():
            raise BadCheckpoint(f"{folder} has no {name}: a published checkpoint needs it beside its .pt")
    _verify(folder, weights)
    return PublishedFiles(folder, weights)


def _folder_of(weights: Path) -> Path:
    # The published training script keeps checkpoints in a folder below config and statistics.
    return weights.parent.parent if weights.parent.name == "checkpoints" else weights.parent


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        repository, _, revision = name.partition("@")
        return Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=["*.yaml", "*.json", "*.pt"])
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadCheckpoint(
            f"{name} is neither a file or folder here nor could it be had from the Hugging Face hub: {reason}"
        ) from error


def _verify(folder: Path, weights: Path) -> None:
    """Check all files that the manifest lists: sizes first, for digests of large files take a while."""
    path = folder / MANIFEST
    if not path.is_file():
        return
    listed = _records(path)
    for name, record in listed.items():
        file = weights if name == weights.name else folder / name
        if not file.is_file():
            raise BadCheckpoint(f"{folder} lacks {name}, which its {MANIFEST} lists")
        size = record.get("size")
        if size is not None and file.stat().st_size != size:
            raise BadCheckpoint(f"{file} has {file.stat().st_size} bytes, its {MANIFEST} says {size}: fetch it again")
    if weights.name not in listed:
        raise BadCheckpoint(f"{weights} is not listed in {path}: it belongs to another checkpoint")
    for name, record in listed.items():
        file = weights if name == weights.name else folder / name
        if record.get("sha256") and sha256_of(file) != record["sha256"]:
            raise BadCheckpoint(f"{file} is not what was published: its SHA-256 differs from that in {MANIFEST}")


def _records(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        manifest = json.loads(path.read_bytes())
        records = list(manifest.get("files", []))
        if manifest.get("checkpoint"):
            records.append(manifest["checkpoint"])
        listed: dict[str, Mapping[str, Any]] = {}
        for record in records:
            name = record["name"]
            if Path(name).name != name or "\\" in name:
                raise BadCheckpoint(f"{path} lists {name!r}, which is no plain file name")
            if name in listed and dict(listed[name]) != dict(record):
                raise BadCheckpoint(f"{path} says two different things of {name}")
            listed[name] = record
        return listed
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(f"{path} is no manifest of a checkpoint: {error}") from error


def read_state(path: Path, parts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The tensors of a ``.pt``, on the CPU; nothing in it is run, and large files are mapped and not yet read.

    Raises:
        BadCheckpoint: it holds anything but tensors, or parts of another model.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise BadCheckpoint(
            f"{path} holds more than tensors and was not loaded: such a file could run any code"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise BadCheckpoint(f"{path} does not read as a PyTorch checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise BadCheckpoint(f"{path} must hold tensors by name and nothing else")
    found = {name.split(".", 1)[0] for name in state}
    missing, others = sorted(set(parts) - found), sorted(found - set(parts))
    if missing or others:
        lacks = f"lacks {', '.join(missing)}" if missing else ""
        holds = f"holds {', '.join(others[:4])}" if others else ""
        raise BadCheckpoint(
            f"{path} {' and '.join(filter(None, (lacks, holds)))}: its parts must be exactly {', '.join(parts)}"
        )
    return state
