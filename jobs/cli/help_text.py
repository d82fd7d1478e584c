"""Help that a person reads: an option that is not given says its default in its own words."""

import types
import typing
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from schemas.plugins import own_plugin_names

Options = TypeVar("Options", bound=type)
METAVARS = {str: "STR", int: "INT", float: "FLOAT", Path: "PATH"}


def optional_in_words(options: Options) -> Options:
    """Under ``@dataclass``: options of type ``X | None`` are shown as X, without ``{None}`` and ``(default: None)``,
    which say nothing, and None cannot be typed; ``bool | None`` so becomes a pair of flags, ``--x`` and ``--no-x``. An
    empty default ``()`` is not shown.
    """
    for name, annotation in options.__annotations__.items():
        hint, *notes = typing.get_args(annotation) if typing.get_origin(annotation) is Annotated else (annotation,)
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        if typing.get_origin(hint) in (types.UnionType, typing.Union) and len(kinds) == 1:
            flag = kinds[0] is bool  # a flag takes no value that a word could stand for
            shown = tyro.conf.arg(metavar=None if flag else _metavar(kinds[0]), help_behavior_hint="")
            options.__annotations__[name] = Annotated[hint, *notes, shown, tyro.conf.DisallowNone]
        elif getattr(options, name, None) == ():
            options.__annotations__[name] = Annotated[hint, *notes, tyro.conf.arg(help_behavior_hint="")]
    return options


def names_of(package: str) -> str:
    """The plug-ins in a package's folder as the choices of an option: ``{dis,lk}``. Looking for those of other packages
    would read a file of every package that is installed; ``lamp-data parts`` lists them.
    """
    return f"{{{','.join(own_plugin_names(package))}}}"


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return f"{{{','.join(map(str, typing.get_args(kind)))}}}"
    if typing.get_origin(kind) is tuple:
        return " ".join("..." if one is ... else METAVARS[one] for one in typing.get_args(kind))
    return METAVARS[kind]
