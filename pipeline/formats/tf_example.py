"""``tf.train.Example`` messages, read without TensorFlow.

An Example is a map from keys to lists of bytes, float32 or int64 in the protobuf wire format. Only its four message
types are supported. Byte strings stay views of the record, so that an encoded image is not copied until it is used.
"""

from collections.abc import Iterator

import numpy as np

Values = list[memoryview] | np.ndarray
"""Byte strings, or a float32 or int64 array."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_NOTHING = np.zeros(0, np.int64)


class MalformedExample(ValueError):
    """The bytes are not a tf.train.Example."""


def parse_example(data: bytes) -> dict[str, Values]:
    """The features of an Example; a feature without values is an empty int64 array.

    Raises:
        MalformedExample: the bytes are something else.
    """
    features: dict[str, Values] = {}
    for number, _, part in _fields(memoryview(data)):
        if number != 1 or not isinstance(part, memoryview):
            continue
        for entry_number, _, entry in _fields(part):
            if entry_number == 1 and isinstance(entry, memoryview):
                key, values = _entry(entry)
                features[key] = values
    return features


def _entry(entry: memoryview) -> tuple[str, Values]:
    key, values = "", _NOTHING
    for number, _, part in _fields(entry):
        if not isinstance(part, memoryview):
            raise MalformedExample("an entry of the feature map holds a number where a message belongs")
        if number == 1:
            try:
                key = str(part, "utf-8")
            except UnicodeDecodeError as error:
                raise MalformedExample("a key is not UTF-8") from error
        elif number == 2:
            values = _feature(part)
    return key, values


def _feature(feature: memoryview) -> Values:
    values: Values = _NOTHING
    for number, _, part in _fields(feature):
        if not isinstance(part, memoryview) or number not in (1, 2, 3):
            raise MalformedExample("a feature is neither bytes, floats nor integers")
        values = (_bytes_list, _float_list, _int64_list)[number - 1](part)
    return values


def _bytes_list(part: memoryview) -> list[memoryview]:
    return [value for number, _, value in _fields(part) if number == 1 and isinstance(value, memoryview)]


def _float_list(part: memoryview) -> np.ndarray:
    chunks = []
    for number, _, value in _fields(part):
        if number != 1 or not isinstance(value, memoryview) or len(value) % 4:
            raise MalformedExample("a list of floats does not hold whole floats")
        chunks.append(np.frombuffer(value, "<f4"))
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def _int64_list(part: memoryview) -> np.ndarray:
    chunks = []
    for number, _, value in _fields(part):
        if number != 1:
            raise MalformedExample("a list of integers holds something else")
        if isinstance(value, int):
            chunks.append(np.array([value], np.uint64).view(np.int64))
        else:
            chunks.append(_varints(value))
    return np.concatenate(chunks) if chunks else _NOTHING


def _varints(packed: memoryview) -> np.ndarray:
    """Packed varints: groups of seven bits, lowest first, each byte but a number's last with its top bit set."""
    raw = np.frombuffer(packed, np.uint8)
    if not len(raw):
        return _NOTHING
    ends = np.flatnonzero(raw < 128)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise MalformedExample("a list of integers ends within a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > 10:
        raise MalformedExample("an integer has more than 64 bits")
    shifts = 7 * (np.arange(len(raw)) - np.repeat(starts, sizes))
    return np.add.reduceat((raw & 127).astype(np.uint64) << shifts.astype(np.uint64), starts).view(np.int64)


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """Number, wire type and value of each field of a message."""
    at, size = 0, len(message)
    while at < size:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, wire, value
            continue
        if wire == _LENGTH:
            length, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise MalformedExample(f"wire type {wire} is not used by this format")
        if length > size - at:
            raise MalformedExample(f"a field of {length} bytes does not fit into the {size - at} that are left")
        yield number, wire, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise MalformedExample("a number does not end")
