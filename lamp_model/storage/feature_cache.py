"""Cache of a frozen backbone's features on disk, so that each window is encoded only once.

A cache is a folder named by a digest of its inputs: the backbone's weights, the shards, the cameras. It holds two
sparse, memory-mapped files of fixed size:

==============  ========================================================================================
``features``    rows of ``length`` x ``width`` numbers of 16 bits, a sample's own tokens first
``index``       one record a row: the sample's number, a hash of its text, its tokens, a checksum
==============  ========================================================================================

Rows are written in sequence, each before its record, and their checksums are verified on reading. Rows that were left
incomplete by a killed process or a full disk are encoded again.
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
"""Larger values do not fit into 16 bits; a sample that has any is not cached."""


class FeatureCache:
    """Rows of features by (sample number, text).

    Attributes:
        rows: capacity; further samples are not cached.
    """

    def __init__(self, folder: Path, length: int, width: int, most_bytes: int, samples: int):
        """Open a cache or begin one.

        Args:
            length: largest number of tokens of a sample; longer ones are not cached.
            most_bytes: largest size of the rows on disk.
            samples: largest number of rows.

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
        """Number of the sample that was cached last; -1 where there is none."""
        return int(self._index["number"][self._next - 1]) if self._next else -1

    def get(self, number: int, text: str) -> np.ndarray | None:
        """A sample's own tokens, [L, D] of 16 bits; None where it has no complete row."""
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
        """Cache a sample's own tokens, [L, D], if there is room and they fit into 16 bits."""
        key = (number, _hash(text))
        if key in self._places or self.full or len(tokens) > self.length:
            return
        if not float(tokens.abs().max()) < LARGEST:
            return
        row, place = tokens.half().cpu().numpy().tobytes(), self._next
        record = np.array((*key, len(tokens), zlib.crc32(row)), RECORD)
        try:  # write(), not the memory map: a full disk then raises an error in place of SIGBUS
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
        """Features of a batch, padded on the left like those of backbones; None if any sample is not cached."""
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
    """Folder of all caches: ``$XDG_CACHE_HOME/lamp/features``, else below ``~/.cache``."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "lamp" / "features"


def digest_of_features(backbone: nn.Module, *said: object) -> str:
    """Digest of everything that affects features: all weights of the backbone, its kind of device, and ``said``."""
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
