"""RLDS files as tensorflow-datasets writes them: its own feature descriptions, its own serialised examples, framed here.

tensorflow-datasets frames records through TensorFlow, which is not installed; the framing below is written from the format's
description with a checksum of its own, so that it shares no line with the reader.
"""

import io
import json
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SAMPLE = Path(__file__).parent / "samples" / "bridge" / "bridge_dataset" / "1.0.0"
SAMPLE_FILE = SAMPLE / "bridge_dataset-train.tfrecord-00000-of-00001"


@cache
def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def masked_crc(data: bytes) -> int:
    """CRC-32C of Castagnoli's polynomial, byte by byte, masked."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _crc_table()[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def frame(record: bytes) -> bytes:
    """A record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", masked_crc(length)) + record + struct.pack("<I", masked_crc(record))


def jpeg(image: np.ndarray) -> io.BytesIO:
    """A picture for an ``Image`` feature, which passes encoded bytes through."""
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert ok
    return io.BytesIO(data.tobytes())


def write_rlds(
    folder: Path,
    features: Any,
    episodes: Sequence[dict[str, Any]],
    stem: str = "dataset-train",
    lengths: Sequence[int] | None = None,
) -> Path:
    """Write ``folder/<name>/<version>``-like contents: features.json, dataset_info.json and one record file; gives that file."""
    folder.mkdir(parents=True, exist_ok=True)
    features.save_config(folder)
    records = [features.serialize_example(features.encode_example(episode)) for episode in episodes]
    name, split = stem.rsplit("-", 1)
    info = {
        "name": name,
        "version": "1.0.0",
        "fileFormat": "tfrecord",
        "splits": [{"name": split, "shardLengths": [str(n) for n in lengths or [len(records)]], "numBytes": "0"}],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    path = folder / f"{stem}.tfrecord-00000-of-00001"
    path.write_bytes(b"".join(map(frame, records)))
    return path


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture that is the same under no flip."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 220, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    image[: height // 4, : width // 4] = (250, 10, 10)  # top left is red
    return image
