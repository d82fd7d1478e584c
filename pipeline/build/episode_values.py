"""An episode's states and actions for the statistics of a dataset, kept in a file beside its samples.

``state`` and ``action`` hold the values of every frame (actions only where there is one). So does ``standard_action``,
unless standard actions are relative to a chunk's first frame: then it holds those of the chunks in the samples.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from schemas.episode import Episode
from schemas.triplet import ActionChunk

KINDS = ("state", "action", "standard_action")


def episode_values(episode: Episode, chunks: Sequence[ActionChunk | None]) -> dict[str, Float32[np.ndarray, "_ _"]]:
    """The values of an episode by kind.

    Args:
        chunks: the standard actions of the episode's samples.
    """
    values = {"state": episode.state, "action": episode.actions[episode.action_mask]}
    made = episode.standard_actions
    if made is not None and made.origin is None:
        values["standard_action"] = made.values[made.mask]
    elif made is not None:
        empty = np.zeros((0, made.values.shape[1]), np.float32)
        values["standard_action"] = np.concatenate([empty, *(c.values[c.mask] for c in chunks if c is not None)])
    return {name: array.astype(np.float32) for name, array in values.items()}


def embodiment_of(episode: Episode) -> dict[str, Any]:
    """Name and dimensions of an episode's state and actions: statistics are shared by episodes with the same ones."""
    made = episode.standard_actions
    embodiment: dict[str, Any] = {
        "state": {"dimensions": list(episode.state_names)},
        "action": _said(episode.action_convention),
    }
    if made is not None:
        over = "frames" if made.origin is None else "samples"
        embodiment["standard_action"] = {**_said(made.convention), "over": over}
    return embodiment


def _said(convention) -> dict[str, Any]:
    return {
        "convention": convention.name,
        "dimensions": list(convention.dimensions),
        "description": convention.description,
    }


def values_bytes(values: Mapping[str, np.ndarray]) -> bytes:
    """The values as the bytes of a ``.npz`` file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(values))
    return buffer.getvalue()


def read_values(path: Path) -> dict[str, np.ndarray]:
    """Read the values that ``values_bytes`` encoded; the arrays cannot be written to.

    ``numpy.load`` would take four times as long, as it parses the header of every array anew.

    Raises:
        ValueError, KeyError, zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as file:
        return {name.removesuffix(".npy"): _array(file.read(name)) for name in file.namelist()}


def _array(data: bytes) -> np.ndarray:
    """The array of a ``.npy`` file of version 1.0."""
    begin = 10 + int.from_bytes(data[8:10], "little")
    shape, fortran, dtype = _header(data[:begin])
    return np.frombuffer(data, dtype, offset=begin).reshape(shape, order="F" if fortran else "C")


@lru_cache(maxsize=4096)
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type."""
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("a file of values is no .npy file of version 1.0")
    return np.lib.format.read_array_header_1_0(file)
