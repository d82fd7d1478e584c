"""Arrays as byte strings: plain ``.npy`` and blosc, read without trusting their headers."""

import io
import math
from functools import lru_cache

import numpy as np

LARGEST_MEMBER = 1 << 28
"""Maximum bytes of a decompressed member; the published size needs 77 KB."""


def array_bytes(array: np.ndarray) -> bytes:
    """The array as a ``.npy`` file's bytes."""
    if array.flags.c_contiguous and array.size:
        return _made_header(array.shape, array.dtype.str) + array.tobytes()
    return _saved(array)


@lru_cache(maxsize=256)
def _made_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """A header, as numpy makes it in the time of half a sample."""
    array = np.zeros(shape, dtype)
    return _saved(array)[: -array.nbytes]


def _saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@lru_cache(maxsize=256)
def _npy_header(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type from a ``.npy`` header; parsing one costs as much as half a sample, so headers are cached.

    Raises:
        ValueError: another version or order, or a type that is not numeric.
    """
    stream = io.BytesIO(header)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("a .npy member of another version than 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran or dtype.hasobject:
        raise ValueError(f"a .npy member must hold plain numbers in C order, found {dtype}")
    return shape, dtype


def load_array(data: bytes) -> np.ndarray:
    """The array of a ``.npy`` file's bytes; it shares their memory.

    Raises:
        ValueError: the bytes are not a ``.npy`` file.
    """
    try:
        begin = 10 + int.from_bytes(data[8:10], "little")
        shape, dtype = _npy_header(data[:begin])
        return np.frombuffer(data, dtype, math.prod(shape), begin).reshape(shape)
    except Exception as error:  # for a damaged header numpy raises tokenizer errors and others
        raise ValueError(f"no .npy array: {error}") from error


def compress(array: np.ndarray, quick: bool = False) -> bytes:
    """Compress to a blosc frame: zstd, with bit shuffle where that is smaller (as for noisy numbers).

    Args:
        quick: use lz4, for small members, where setting up zstd takes longer than reading.
    """
    from numcodecs.blosc import Blosc

    name, data = "lz4" if quick else "zstd", np.ascontiguousarray(array)
    shuffles = (Blosc.NOSHUFFLE, Blosc.BITSHUFFLE)
    return min((bytes(Blosc(cname=name, clevel=5, shuffle=s).encode(data)) for s in shuffles), key=len)


def decompress(data: bytes, size: int) -> bytes:
    """Undo ``compress``.

    Raises:
        ValueError: the data declare another size than expected; no memory is allocated then.
    """
    from numcodecs.blosc import decompress as expand

    if (
        len(data) < 16
        or size > LARGEST_MEMBER
        or int.from_bytes(data[4:8], "little") != size
        or int.from_bytes(data[12:16], "little") != len(data)
    ):
        raise ValueError(f"a compressed member does not hold the {size} bytes that it should")
    return expand(data)
