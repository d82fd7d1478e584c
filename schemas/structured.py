"""Reads handwritten YAML or TOML files into frozen dataclasses; errors name the field and its place."""

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

Kind = TypeVar("Kind")

LARGEST_FILE = 1 << 20
SUFFIXES = (".yaml", ".yml", ".toml")
_NAMES = {str: "text", float: "a number", int: "a whole number", bool: "true or false"}


class BadFile(ValueError):
    """The file cannot be read or does not have the expected contents; the message names the place in it."""


def read_structured(path: Path) -> dict[str, Any]:
    """The contents of a YAML or TOML file; YAML tags for objects are refused.

    Raises:
        BadFile: there is no such file, it is of neither kind, or its top level is not a table.
    """
    import yaml

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix not in SUFFIXES:
        raise BadFile(f"{path} must end in {', '.join(SUFFIXES)}")
    if len(data) > LARGEST_FILE:
        raise BadFile(f"{path} has {len(data)} bytes; such a file is written by hand and has at most {LARGEST_FILE}")
    try:
        values = tomllib.loads(data.decode()) if path.suffix == ".toml" else yaml.load(data, _strict_loader())
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise BadFile(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise BadFile(f"{path} must hold names with values, found {_said(values)}")
    return values


def _strict_loader() -> type:
    """The safe YAML loader, which refuses tags for objects; duplicate names are refused too, as in TOML."""
    import yaml

    class StrictLoader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
                seen.add(key.value if isinstance(key.value, str) else id(key))
            return super().construct_mapping(node, deep)

    return StrictLoader


def structure(kind: type[Kind], value: Any, file: str) -> Kind:
    """Convert the result of ``read_structured`` to a type: a dataclass of dataclasses, ``tuple[X, ...]``,
    ``dict[str, X]``, ``Literal``, optional, plain values and ``Any``.

    A single value is read as a tuple of one.

    Args:
        file: its name, for messages.

    Raises:
        BadFile: an unknown or missing name, or a value that does not fit; the message says where, and what is
            allowed.
    """
    try:
        return _structured(kind, value, "")
    except BadFile as error:
        raise BadFile(f"{file}: {error}") from error


def _structured(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin in (types.UnionType, typing.Union):
        chosen = next(part for part in parts if part is not types.NoneType)
        return None if value is None else _structured(chosen, value, where)
    if origin is typing.Literal:
        if value not in parts:
            raise BadFile(f"{where} must be one of {', '.join(map(str, parts))}, found {_said(value)}")
        return value
    if origin is tuple:
        return _tuple(parts, value, where)
    if origin is dict:
        return {str(key): _structured(parts[1], inner, _at(where, key)) for key, inner in _table(value, where).items()}
    return _plain(kind, value, where)


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    fields, hints = {f.name: f for f in dataclasses.fields(kind)}, typing.get_type_hints(kind)
    table = _table(value, where)
    for name in table:
        if name not in fields:
            raise BadFile(f"{where or 'it'} has a name {name!r} that is not known; known are {', '.join(fields)}")
    without = [
        f.name for f in fields.values() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in without if name not in table]:
        raise BadFile(f"{where or 'it'} lacks {', '.join(missing)}")
    made = {name: _structured(hints[name], inner, _at(where, name)) for name, inner in table.items()}
    try:
        return kind(**made)
    except BadFile:
        raise
    except ValueError as error:
        raise BadFile(f"{where or 'it'} is wrong: {error}") from error


def _table(value: Any, where: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise BadFile(f"{where or 'it'} must hold names with values, found {_said(value)}")
    return value


def _at(where: str, name: Any) -> str:
    return f"{where}.{name}" if where else str(name)


def _tuple(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = value if isinstance(value, list) else [value]
    if parts[-1] is not Ellipsis:
        if len(items) != len(parts):
            raise BadFile(f"{where} must hold {len(parts)} values, found {len(items)}")
        return tuple(
            _structured(p, item, f"{where}[{i}]") for i, (p, item) in enumerate(zip(parts, items, strict=True))
        )
    return tuple(_structured(parts[0], item, f"{where}[{i}]") for i, item in enumerate(items))


def _plain(kind: Any, value: Any, where: str) -> Any:
    fits = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not fits:
        raise BadFile(f"{where} must be {_NAMES.get(kind, kind.__name__)}, found {_said(value)}")
    return value


def _said(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."
