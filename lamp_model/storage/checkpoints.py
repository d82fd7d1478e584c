"""Checkpoints: folders of safetensors and JSON, written atomically.

``step-000150/`` holds ``weights.safetensors`` (trained weights), ``optimizer.safetensors`` (moments, by parameter name)
and ``state.json`` (the step, and the SHA-256 of the other two). It is written to a temporary folder, synced and
renamed. ``best.json`` names the checkpoint with the smallest held-out loss; it is a pointer and no copy.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from lamp_model.errors import BadCheckpoint, BadRun
from schemas.files import sha256_of, sync_folder, write_whole

WEIGHTS, OPTIMIZER, STATE, BEST = "weights.safetensors", "optimizer.safetensors", "state.json", "best.json"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """The state that resuming needs.

    Attributes:
        step: optimiser steps done.
        weights: learning parameters by name.
        optimizer: AdamW's state as ``<parameter>::<field>``, with the averages of ``lamp_model.training.averaging``.
        val_loss: held-out loss at this step; None where it was not measured.
    """

    step: int
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    val_loss: float | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint and remove all but the newest ``keep`` and the best.

    Raises:
        OSError: the disk is full or failing; earlier checkpoints are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:06d}"
    aside = folder / f".{final.name}.{secrets.token_hex(4)}.partial"
    try:
        aside.mkdir()
        write_tensors(aside / WEIGHTS, checkpoint.weights)
        write_tensors(aside / OPTIMIZER, checkpoint.optimizer)
        digests = {name: sha256_of(aside / name) for name in (WEIGHTS, OPTIMIZER)}
        write_whole(aside / STATE, json.dumps({"step": checkpoint.step, "sha256": digests}, indent=1).encode() + b"\n")
        if final.exists():  # left by a run that was killed after this step and was resumed from an earlier one
            shutil.rmtree(final)
        os.rename(aside, final)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if checkpoint.val_loss is not None:
        note_best(folder, checkpoint.step, checkpoint.val_loss)
    remove_old(folder, keep)
    return final


def remove_old(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest ``keep`` and the best."""
    best = best_of(folder)
    for old in steps_in(folder)[:-keep]:
        if best is None or old != best.step:
            shutil.rmtree(folder / f"step-{old:06d}", ignore_errors=True)


@dataclass(frozen=True)
class Best:
    """The content of ``best.json``."""

    step: int
    val_loss: float


def best_of(folder: Path) -> Best | None:
    """The checkpoint with the smallest held-out loss; None where none was validated, or it is gone."""
    try:
        values = json.loads((folder / BEST).read_bytes())
        best = Best(int(values["step"]), float(values["val_loss"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return best if best.step in steps_in(folder) else None


def note_best(folder: Path, step: int, val_loss: float) -> bool:
    """Point ``best.json`` to a checkpoint if its held-out loss is smaller than that of the best so far. What a resumed
    run repeats counts anew.

    Returns:
        Whether it is the best now.
    """
    before = best_of(folder)
    if before is not None and before.step < step and not val_loss < before.val_loss:
        return False
    write_whole(folder / BEST, json.dumps({"step": step, "val_loss": val_loss}).encode() + b"\n")
    return True


def load_best(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of the best checkpoint; their averages where it has any.

    Raises:
        BadRun: no checkpoint was validated.
        BadCheckpoint: it is damaged.
    """
    best = best_of(folder)
    if best is None:
        raise BadRun(
            f"{folder} has no best checkpoint: nothing was held out, or no validation fell on the step of a checkpoint"
        )
    found = _load(folder / f"step-{best.step:06d}")
    averages = {n.rpartition("::")[0]: t for n, t in found.optimizer.items() if n.endswith("::average")}
    return {name: averages.get(name, tensor) for name, tensor in found.weights.items()}


def steps_in(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in a folder, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for entry in folder.iterdir() if (match := _NAME.fullmatch(entry.name)))


def load_newest(folder: Path, tidy: bool = True) -> Checkpoint | None:
    """Load the newest complete checkpoint and check its digests; None when there is none.

    Args:
        tidy: remove incomplete ones.

    Raises:
        BadCheckpoint: the digests do not match.
    """
    for partial in folder.glob(".step-*.partial") if tidy else ():
        shutil.rmtree(partial, ignore_errors=True)
    steps = steps_in(folder)
    if not steps:
        return None
    return _load(folder / f"step-{steps[-1]:06d}")


def _load(path: Path) -> Checkpoint:
    try:
        state = json.loads((path / STATE).read_bytes())
        for name, digest in state["sha256"].items():
            if sha256_of(path / name) != digest:
                raise BadCheckpoint(f"{path / name} is damaged: its SHA-256 differs; remove {path} to go on before it")
        return Checkpoint(int(state["step"]), read_tensors(path / WEIGHTS), read_tensors(path / OPTIMIZER))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(f"{path} is no complete checkpoint ({error}); remove it to go on before it") from error


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a safetensors file so that it is whole or absent."""
    write_whole(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def write_sealed_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a safetensors file, and its SHA-256 beside it in the form of ``sha256sum``; the tensors last, whole or
    absent."""
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_whole(seal_of(path), f"{hashlib.sha256(data).hexdigest()}  {path.name}\n".encode())
    write_whole(path, data)


def seal_of(path: Path) -> Path:
    """Path of the checksum of a file of tensors."""
    return path.with_name(f"{path.name}.sha256")


def read_sealed_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file that ``write_sealed_tensors`` wrote, on the CPU.

    Raises:
        BadCheckpoint: the file or its checksum is missing, or they do not match.
    """
    if not path.is_file():
        raise BadCheckpoint(f"{path} is missing")
    try:
        said = seal_of(path).read_text(errors="replace").split()
    except OSError as error:
        raise BadCheckpoint(
            f"{seal_of(path)}, the checksum of {path.name}, cannot be read: {error.strerror}"
        ) from error
    found = sha256_of(path)
    if said[:1] != [found]:
        raise BadCheckpoint(
            f"{path} is damaged: its SHA-256 is {found[:12]} and not {(said or ['none'])[0][:12]}, as "
            f"{seal_of(path).name} says; copy the run again, or train it again"
        )
    return read_tensors(path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        BadCheckpoint: the file is missing or no safetensors file.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise BadCheckpoint(f"{path} is missing") from None
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(f"{path} does not read as safetensors: {error}") from error
