"""Options in a file: the names are those of a command line, with ``_`` or ``-``, and what the command line says goes
first.

``lamp-data build --recipe`` and ``lamp-train --recipe`` both read their files with this.
"""

import dataclasses
import typing
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from schemas.structured import BadFile, read_structured, structure

Options = TypeVar("Options")


def known_options(table: Mapping[Any, Any], known: Iterable[str], where: str) -> dict[str, Any]:
    """A table with ``_`` in its names.

    Raises:
        BadFile: a name is not known; the message says where, and which are.
    """
    known = tuple(known)
    for name in table:
        if str(name).replace("-", "_") not in known:
            raise BadFile(f"{where} has a name {name!r} that is not known; known are {', '.join(known)}")
    return {str(name).replace("-", "_"): value for name, value in table.items()}


def given(options: Any, but: Container[str] = ()) -> list[str]:
    """Names of the options of a command line that are not as they are by default."""
    fields = [field for field in dataclasses.fields(options) if field.name not in but]
    return [field.name for field in fields if getattr(options, field.name) != default_of(field)]


def default_of(field: dataclasses.Field) -> Any:
    """What a field holds when nobody says it."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def with_options_file(options: Options, path: Path, but: Container[str], default: Mapping[str, Any]) -> Options:
    """The options of a command line, those that were not given taken from a file. Paths in it are, as there, relative
    to where the command runs.

    Args:
        but: options that no file may say.
        default: for what neither says.

    Raises:
        BadFile: the file cannot be used; the message names the place in it.
    """
    every: Any = options
    names = [field.name for field in dataclasses.fields(every) if field.name not in but]
    hints = typing.get_type_hints(type(options))
    values = {**default, **known_options(read_structured(path), names, str(path))}
    for name, value in values.items():
        if isinstance(value, str) and Path in typing.get_args(hints[name]):
            values[name] = Path(value)
    said: Any = structure(type(options), values, str(path))
    first = set(given(options, but))
    return dataclasses.replace(every, **{name: getattr(said, name) for name in values if name not in first})
