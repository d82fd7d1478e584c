"""Help that a person reads: an option that is not given says its default in its own words."""

import types
import typing
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

Options = TypeVar("Options", bound=type)
METAVARS = {str: "STR", int: "INT", float: "FLOAT", Path: "PATH", bool: "{True,False}"}


def optional_in_words(options: Options) -> Options:
    """Under ``@dataclass``: options of type ``X | None`` are shown as X, without ``{None}`` and ``(default: None)``,
    which say nothing.
    """
    for name, annotation in options.__annotations__.items():
        hint, *notes = typing.get_args(annotation) if typing.get_origin(annotation) is Annotated else (annotation,)
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        if typing.get_origin(hint) in (types.UnionType, typing.Union) and len(kinds) == 1:
            shown = tyro.conf.arg(metavar=_metavar(kinds[0]), help_behavior_hint="")
            options.__annotations__[name] = Annotated[hint, *notes, shown]
    return options


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return f"{{{','.join(map(str, typing.get_args(kind)))}}}"
    return METAVARS[kind]
