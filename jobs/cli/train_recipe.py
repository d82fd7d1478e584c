"""A recipe of training: the options of ``lamp-train`` in a file, so that an experiment has a name. What the command
line says goes first.

::

    stage: 2
    fusion: add
    steps: 15_000

Names are those of the command line, with ``_`` or ``-``; paths are, as there, relative to where the command runs.
"""

import dataclasses
import typing
from pathlib import Path
from typing import Any, TypeVar

from schemas.structured import BadFile, read_structured, structure

WHERE_AND_HOW = ("recipe", "resume", "device", "threads")
"""Options that say where and how to run and not what to train."""

Options = TypeVar("Options")


def with_recipe(args: Options, path: Path) -> Options:
    """The options of a command line, those that were not given taken from a recipe. Without an output in either, the
    run goes to a folder of the recipe's name.

    Raises:
        BadFile: the file cannot be used; the message names the place in it.
    """
    hints = typing.get_type_hints(type(args))
    every: Any = args
    fields = {f.name: f for f in dataclasses.fields(every) if f.name not in WHERE_AND_HOW}
    values: dict[str, Any] = {"output": f"runs/{path.stem}"}
    for word, value in read_structured(path).items():
        name = str(word).replace("-", "_")
        if name not in fields:
            raise BadFile(f"{path} has a name {word!r} that is not known; known are {', '.join(fields)}")
        values[name] = value
    for name, value in values.items():
        if isinstance(value, str) and Path in typing.get_args(hints[name]):
            values[name] = Path(value)
    said: Any = structure(type(args), values, str(path))
    given = {name for name, field in fields.items() if getattr(args, name) != field.default}
    taken = {name: getattr(said, name) for name in values if name not in given}
    return dataclasses.replace(args, **taken)  # pyright: ignore[reportArgumentType]
