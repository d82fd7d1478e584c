"""Features of a frozen backbone kept on disk, so that each window is encoded once and not at every visit.

A cache is a folder named by what decides its content: the backbone's weights, the shards, the cameras. It holds two
files of fixed size, made sparse and mapped into memory:

==============  ========================================================================================
``features``    rows of ``length`` x ``width`` numbers of 16 bits, a sample's own tokens first
``index``       one record a row: the sample's number, a hash of its text, its tokens, a checksum
==============  ========================================================================================

Rows are written one after the other, each before its record, and are held to their checksums when they are read: what
a killed process or a full disk left half written is encoded anew.
"""

import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lamp_model.features import Features
from schemas.files import digest_of

RECORD = np.dtype([("number", "<i8"), ("text", "<u8"), ("tokens", "<u4"), ("checksum", "<u4")])
LARGEST = 60_000.0
"""Numbers beyond it do not fit into 16 bits: such a sample is not kept."""


class FeatureCache:
    """Rows of features by (sample number, text).

    Attributes:
        rows: how many there is room for; further samples are not kept.
    """

    def __init__(self, folder: Path, length: int, width: int, most_bytes: int, samples: int):
        """Open a cache or begin one.

        Args:
            length: the longest sample's tokens; longer ones are not kept.
            most_bytes: that the rows may take on disk.
            samples: how many rows are wanted at most.

        Raises:
            OSError: the folder cannot be written.
        """
        self.length, self.width = length, width
        self.rows = max(0, min(samples, most_bytes // (length * width * 2)))
        folder.mkdir(parents=True, exist_ok=True)
        self._index = _mapped(folder / "index", RECORD, (self.rows,))
        self._features = _mapped(folder / "features", np.dtype(np.float16), (self.rows, length, width))
        names = ("features", "index") if self.rows else ()
        self._files = [os.open(folder / name, os.O_WRONLY) for name in names]
        used = np.flatnonzero(self._index["tokens"]) if self.rows else np.zeros(0, int)
        self._places = {(int(self._index["number"][i]), int(self._index["text"][i])): int(i) for i in used}
        self._next = int(used[-1]) + 1 if len(used) else 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def full(self) -> bool:
        """Whether there is no room for another row."""
        return self._next >= self.rows

    @property
    def last(self) -> int:
        """Number of the sample that was kept last; -1 where there is none."""
        return int(self._index["number"][self._next - 1]) if self._next else -1

    def get(self, number: int, text: str) -> np.ndarray | None:
        """A sample's own tokens, [L, D] of 16 bits; None where there is no whole row of it."""
        key = (number, _hash(text))
        place = self._places.get(key)
        if place is None:
            return None
        record = self._index[place]
        row = np.array(self._features[place, : int(record["tokens"])])
        if zlib.crc32(row.tobytes()) != int(record["checksum"]):
            del self._places[key]
            return None
        return row

    def put(self, number: int, text: str, tokens: torch.Tensor) -> None:
        """Keep a sample's own tokens, [L, D], where there is room for them and they fit into 16 bits."""
        key = (number, _hash(text))
        if key in self._places or self.full or len(tokens) > self.length:
            return
        if not float(tokens.abs().max()) < LARGEST:
            return
        row, place = tokens.half().cpu().numpy().tobytes(), self._next
        record = np.array((*key, len(tokens), zlib.crc32(row)), RECORD)
        try:  # written and not through the map: a full disk is then an error and no signal that ends the process
            features, index = self._files
            os.pwrite(features, row, place * self.length * self.width * 2)
            os.pwrite(index, record.tobytes(), place * RECORD.itemsize)
        except OSError as error:
            print(f"features: no more are kept, the cache cannot be written ({error.strerror})")
            self.rows = self._next
            return
        self._places[key], self._next = place, place + 1

    def close(self) -> None:
        """Close both files."""
        for file in self._files:
            os.close(file)

    def features(self, numbers: Sequence[int], texts: Sequence[str], device: torch.device) -> Features | None:
        """Samples side by side, padded in front as backbones do it; None where one of them is not there."""
        rows = [self.get(number, text) for number, text in zip(numbers, texts, strict=True)]
        found = [row for row in rows if row is not None]
        if len(found) < len(rows):
            return None
        longest = max(len(row) for row in found)
        tokens = torch.zeros(len(found), longest, self.width)
        mask = torch.zeros(len(found), longest, dtype=torch.bool)
        for at, row in enumerate(found):
            tokens[at, longest - len(row) :] = torch.from_numpy(row)
            mask[at, longest - len(row) :] = True
        return Features(tokens.to(device), mask.to(device))


def cache_folder() -> Path:
    """Where caches lie: ``$XDG_CACHE_HOME/lamp/features``, else below ``~/.cache``."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "lamp" / "features"


def digest_of_features(backbone: nn.Module, *said: object) -> str:
    """A name for what decides features: every weight of the backbone, the kind of device it is on, and what else is
    said."""
    weights = hashlib.sha256()
    device = "cpu"
    for name, tensor in backbone.state_dict().items():
        device = tensor.device.type
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        weights.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest_of([weights.hexdigest(), device, list(said)])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _mapped(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape)) * kind.itemsize
    if not size:
        return np.zeros(shape, kind)
    if not path.is_file() or path.stat().st_size < size:
        with open(path, "ab") as file:
            file.truncate(size)
    return np.memmap(path, kind, "r", shape=shape)
