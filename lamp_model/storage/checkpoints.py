"""Checkpoints: folders of safetensors and JSON, written atomically.

``step-000150/`` holds ``weights.safetensors`` (trained weights), ``optimizer.safetensors`` (moments, by parameter name)
and ``state.json`` (the step, and the SHA-256 of the other two). It is written to a temporary folder, synced and
renamed.
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

from lamp_model.errors import BadCheckpoint
from schemas.files import sha256_of, sync_folder, write_whole

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """The state that resuming needs.

    Attributes:
        step: optimiser steps done.
        weights: learning parameters by name.
        optimizer: AdamW's state as ``<parameter>::<field>``.
    """

    step: int
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint and remove all but the newest ``keep``.

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
    for old in steps_in(folder)[:-keep]:
        shutil.rmtree(folder / f"step-{old:06d}", ignore_errors=True)
    return final


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
    path = folder / f"step-{steps[-1]:06d}"
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
