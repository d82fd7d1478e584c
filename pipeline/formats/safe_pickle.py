"""Reads pickles of unknown origin without running any function that they name.

A pickle is a program that names functions and calls them. Here it can name only the few functions with which NumPy
writes an array, and those are replaced by stand-ins that record and check their arguments. Everything else is refused
before it is imported. The result consists of plain values: dicts, lists, tuples, texts, bytes, numbers, None and arrays
of numbers.
"""

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

LARGEST = 256 << 20
"""Largest size in bytes of a file that is read."""

DEEPEST = 64
"""Largest depth of nested containers."""

MOST_VALUES = 10_000_000
"""Largest number of values; containers that occur in several places are counted each time."""

KINDS = "biufc"
"""Kinds of arrays that are returned: booleans, integers, floats and complex numbers."""

MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")


class HostilePickle(ValueError):
    """The pickle names something that a file of numbers does not need; nothing of it was run."""


class DamagedPickle(ValueError):
    """The bytes are not a complete pickle."""


def read_pickle(path: Path) -> Any:
    """A pickle's value.

    Raises:
        HostilePickle: it names anything but plain values and arrays, or would exceed a size limit.
        DamagedPickle: it is truncated or not a pickle.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise HostilePickle(f"it has {size:,} bytes, at most {LARGEST:,} are read")
    return load_pickle(path.read_bytes())


def load_pickle(data: bytes) -> Any:
    """The value of pickled bytes; see ``read_pickle``."""
    try:
        _check_program(data)
        return _Plain().of(_Unpickler(data).load())
    except HostilePickle:
        raise
    except Exception as error:  # damaged bytes make the unpickler raise nearly any exception
        raise DamagedPickle(f"it is no whole pickle: {' '.join(f'{type(error).__name__} {error}'.split())}") from error


def _check_program(data: bytes) -> None:
    """Refuse opcodes that make the unpickler reserve memory that the file does not fill, and those that only code could
    resolve.
    """
    for code, argument, _ in pickletools.genops(data):
        if code.name in ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"):
            raise HostilePickle(f"it uses {code.name}, which refers to something outside of it")
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise HostilePickle(f"it numbers a value {argument:,}, which would reserve memory for as many")


class _Type:
    """Stands for ``numpy.dtype``."""

    def __init__(self, name: Any, *_: Any):
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def resolved(self) -> np.dtype | None:
        """The type, or None if it is not a plain number type."""
        name = _text(self.name)
        if name[:1] not in KINDS or not name[1:].isdigit() or self.order not in ("<", ">", "|", "="):
            return None
        return np.dtype(name).newbyteorder(self.order)


class _Array:
    """Stands for ``numpy.ndarray`` and the functions that create it."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


class _Name:
    """Stands for the class ``numpy.ndarray`` where it is only named."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, data: Any = b"") -> Any:
    value = _array(data, dtype, (), "C")
    return value.item() if isinstance(value, np.ndarray) else value


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    return _array(data, dtype, shape, _text(order))


def _latin_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    """As Python 2 and protocol 2 write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise HostilePickle(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """As protocol 2 writes an empty one."""
    return b""


def _array(data: Any, dtype: Any, shape: Any, order: str) -> Any:
    """An array of numbers; the values themselves for an array of objects; None for any other type."""
    if isinstance(data, list):
        return data
    kind = dtype.resolved() if isinstance(dtype, _Type) else None
    if kind is None:
        return None
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if order not in ("C", "F") or math.prod(shape) * kind.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} and type {kind} does not have {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape, order=order).astype(kind.newbyteorder("="))


ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _reconstruct for module in MODULES[:2]},
    **{(module, "scalar"): _scalar for module in MODULES[:2]},
    **{(module, "_frombuffer"): _from_buffer for module in MODULES[2:]},
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Name,
    ("_codecs", "encode"): _latin_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): dict,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="latin1")

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        allowed = ALLOWED.get((module_name, global_name))
        if allowed is None:
            raise HostilePickle(f"it names {module_name}.{global_name}".encode("ascii", "backslashreplace").decode())
        return allowed


class _Plain:
    """Replaces the stand-ins in a value. Values that occur in several places are counted each time, so that a small
    pickle cannot expand without limit.
    """

    def __init__(self) -> None:
        self.count = 0

    def of(self, value: Any, depth: int = 0) -> Any:
        self.count += 1
        if depth > DEEPEST or self.count > MOST_VALUES:
            raise HostilePickle(f"it nests deeper than {DEEPEST} or holds more than {MOST_VALUES:,} values")
        if isinstance(value, dict):
            return {self.of(key, depth + 1): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.of(item, depth + 1) for item in value)
        if isinstance(value, _Array):
            return self.of(value.value, depth + 1) if isinstance(value.value, list) else value.value
        return None if isinstance(value, (_Type, _Name, type)) or callable(value) else value


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
