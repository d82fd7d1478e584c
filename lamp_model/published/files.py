"""Finds the files of a published checkpoint, checks them against the manifest and reads them without running code.

Small files are checked first. The ``.pt`` is downloaded and hashed only after all other checks.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from lamp_model.errors import BadCheckpoint
from lamp_model.published import CONFIG, MANIFEST, STATISTICS
from lamp_model.published.manifest import Listed, check_size, differs, read_published_manifest
from lamp_model.storage.run_folder import BACKBONE
from schemas.errors import first_line
from schemas.files import sha256_of
from schemas.hub import hub_at_hand
from schemas.locations import local_path

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")
"""OWNER/NAME, or OWNER/NAME@REVISION."""
SMALL, LARGE = ["*.yaml", "*.json", "*.jinja", "*.txt"], ["*.pt"]
"""Files that are fetched from the hub first, and those that are fetched last."""
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class PublishedFiles:
    """The locations of a checkpoint's files.

    Attributes:
        file: the ``.pt``; None while it is still on the hub.
        hub: its location on the hub, OWNER/NAME and a commit.
        listed: the manifest's entries, by name; empty without a manifest.
    """

    folder: Path
    file: Path | None
    hub: tuple[str, str | None] | None = None
    listed: Mapping[str, Listed] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """``config.yaml``."""
        return self.folder / CONFIG

    @property
    def statistics(self) -> Path:
        """``dataset_statistics.json``; a file of motion weights may lack it."""
        return self.folder / STATISTICS

    @property
    def weights(self) -> Path:
        """The ``.pt``, once it is downloaded."""
        assert self.file is not None, "fetch it first"
        return self.file


def is_published(source: str | Path) -> bool:
    """Whether a path looks like a published checkpoint, or a string like a name on the hub.

    Raises:
        ValueError: it is a URL.
    """
    path = local_path(source, "the source")
    if path.is_dir():
        return (path / CONFIG).is_file() or any(path.glob("*.pt"))
    # If the parent folder exists, this is a mistyped path and not a name on the hub.
    is_hub_id = isinstance(source, str) and HUB_ID.fullmatch(source) and not path.parent.exists()
    return path.suffix == ".pt" or bool(is_hub_id)


def find(source: str | Path, needs_statistics: bool = True) -> PublishedFiles:
    """Find the small files of a checkpoint and check them against its manifest. The source is a folder, a ``.pt`` in
    one, or a name on the Hugging Face hub, pinned by ``@COMMIT``. Of a local ``.pt`` only the size is checked.

    Raises:
        BadCheckpoint: a file is missing, there is more than one ``.pt``, the manifest does not match, or the download
            failed.
    """
    path = Path(source)
    if path.is_dir():
        files = PublishedFiles(path, _only_weights(path))
    elif path.suffix == ".pt":
        # The published training script keeps checkpoints in a folder below config and statistics.
        folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
        files = PublishedFiles(folder, path)
    else:
        files = _on_hub(str(source))
    if files.file is not None and not files.file.is_file():
        raise BadCheckpoint(f"{files.file} is no file" if files.file.exists() else f"{files.file} does not exist")
    for name in (CONFIG, STATISTICS) if needs_statistics else (CONFIG,):
        if not (files.folder / name).is_file():
            raise BadCheckpoint(f"{files.folder} has no {name}: a published checkpoint needs it beside its .pt")
    if not (files.folder / MANIFEST).is_file():
        return files
    files = replace(files, listed=read_published_manifest(files.folder / MANIFEST))
    _verify_small(files)
    return files


def fetched(files: PublishedFiles) -> PublishedFiles:
    """The same files with a local ``.pt``, downloaded if it was on the hub.

    Raises:
        BadCheckpoint: the download failed, or there is not exactly one.
    """
    if files.hub is None or files.file is not None:
        return files
    found = replace(files, file=_only_weights(_downloaded(*files.hub, LARGE)))
    _check_listed(found)
    return found


def verify_weights(files: PublishedFiles) -> None:
    """Check the ``.pt`` against the manifest's SHA-256, if there is one. This is slow for large files.

    Raises:
        BadCheckpoint: it differs.
    """
    if files.listed and sha256_of(files.weights) != files.listed[files.weights.name].sha256:
        raise differs(files.weights)


def _only_weights(folder: Path) -> Path:
    found = sorted(folder.glob("*.pt"))
    if len(found) != 1:
        raise BadCheckpoint(
            f"{folder} must hold exactly one .pt file, found {', '.join(f.name for f in found) or 'none'}"
        )
    return found[0]


def _on_hub(source: str) -> PublishedFiles:
    name, _, revision = source.partition("@")
    folder = _downloaded(name, revision or None, SMALL)
    # A snapshot's folder is named by its commit. Weights of a later commit may belong to another config.
    commit = folder.name if _COMMIT.fullmatch(folder.name) else revision or None
    if (folder / MANIFEST).is_file():
        # The authors' manifests also list files that no loader reads, such as README.md; these are verified too.
        listed = read_published_manifest(folder / MANIFEST)
        absent = [file for file in listed if not file.endswith(".pt") and not (folder / file).is_file()]
        if absent:
            _downloaded(name, commit, absent)
    return PublishedFiles(folder, None, (name, commit))


def _downloaded(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with hub_at_hand():
            return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*.pt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BadCheckpoint(
            f"{name} is neither a file nor a folder here, nor could it be had from the Hugging Face hub: "
            f"{first_line(error)}"
        ) from error


def _verify_small(files: PublishedFiles) -> None:
    folder = files.folder
    own = sorted(p.relative_to(folder).as_posix() for p in (folder / BACKBONE).rglob("*") if p.is_file())
    there = [name for name in (CONFIG, STATISTICS) if (folder / name).is_file()]
    for name in (*there, *own):
        if name not in files.listed:
            raise BadCheckpoint(
                f"{folder / MANIFEST} does not list {name}, so nobody knows whether it is the one that was published: "
                "fetch or export it again, or remove the manifest"
            )
    if files.file is not None:
        _check_listed(files)
    small = {name: listed for name, listed in files.listed.items() if not name.endswith(".pt")}
    for name, listed in small.items():
        if not (folder / name).is_file():
            raise BadCheckpoint(f"{folder} lacks {name}, which its {MANIFEST} lists")
        check_size(folder / name, listed)
    for name, listed in small.items():
        if sha256_of(folder / name) != listed.sha256:
            raise differs(folder / name)


def _check_listed(files: PublishedFiles) -> None:
    """Check name and size of the ``.pt``."""
    weights = files.weights
    if not files.listed:
        return
    others = [name for name in files.listed if name.endswith(".pt") and name != weights.name]
    if others and not (files.folder / others[0]).is_file():
        raise BadCheckpoint(f"{files.folder} lacks {others[0]}, which its {MANIFEST} lists")
    if weights.name not in files.listed:
        raise BadCheckpoint(f"{weights} is not listed in {files.folder / MANIFEST}: it belongs to another checkpoint")
    check_size(weights, files.listed[weights.name])


def read_state(files: PublishedFiles, parts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Read the tensors of the ``.pt`` on the CPU, without running code from it. A file in torch's zip format is memory
    mapped: only its index is read, and the caller must verify it before using the weights. A file in the old format is
    read whole, so it is verified first.

    Raises:
        BadCheckpoint: it holds anything but floating-point tensors, or modules of another model.
    """
    path, mapped = files.weights, zipfile.is_zipfile(files.weights)
    if not mapped:
        verify_weights(files)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise BadCheckpoint(
            f"{path} holds more than tensors and was not loaded: such a file could run any code"
        ) from error
    except Exception as error:  # damaged bytes can make the reader raise anything
        raise BadCheckpoint(f"{path} does not read as a PyTorch checkpoint: {first_line(error)}") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise BadCheckpoint(f"{path} must hold tensors by name and nothing else")
    _check_parts(path, {name.split(".", 1)[0] for name in state}, parts)
    for name, tensor in state.items():
        if reason := _unfit(tensor):
            raise BadCheckpoint(f"{path} must hold dense tensors of floating-point numbers, and {name} is {reason}")
    return state


def _check_parts(path: Path, found: set[str], parts: tuple[str, ...]) -> None:
    missing, others = sorted(set(parts) - found), sorted(found - set(parts))
    if missing or others:
        lacks = f"lacks {', '.join(missing)}" if missing else ""
        holds = f"holds {', '.join(others[:4])}" if others else ""
        raise BadCheckpoint(
            f"{path} {' and '.join(filter(None, (lacks, holds)))}: its parts must be exactly {', '.join(parts)}"
        )


def _unfit(tensor: torch.Tensor) -> str:
    """Why a tensor cannot be a weight; an empty text when it can."""
    if tensor.dtype not in PRECISIONS:
        return str(tensor.dtype).removeprefix("torch.")
    if tensor.device.type != "cpu":
        return f"without numbers (on the device {tensor.device.type})"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
    return ""
