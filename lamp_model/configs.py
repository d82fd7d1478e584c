"""Frozen configs as JSON values, and back."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def from_values(config_type: type[T], values: typing.Mapping[str, Any], where: str = "config") -> T:
    """A frozen dataclass from what ``dataclasses.asdict`` and JSON made of it.

    Raises:
        ValueError: a key is not a field, or the config refuses its values.
    """
    hints = typing.get_type_hints(config_type)
    names = {f.name for f in dataclasses.fields(config_type)}  # pyright: ignore[reportArgumentType]
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(f"{where} has no {', '.join(unknown)}; it has: {', '.join(sorted(names))}")
    try:
        return config_type(**{k: _read(hints[k], v, f"{where}.{k}") for k, v in values.items()})
    except TypeError as error:
        raise ValueError(f"{where} is incomplete: {error}") from error


def _read(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(k for k in typing.get_args(hint) if k is not type(None))
    if value is None:
        return None
    if dataclasses.is_dataclass(hint):
        return from_values(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    return value
