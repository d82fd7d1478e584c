"""What both commands read from the command line before their own options, and how misspelt words are answered."""

import inspect
import logging
import os
import sys
import typing
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from jobs.cli.exit_codes import UsageError
from schemas.locations import local_path, locate
from schemas.progress import show_progress
from schemas.suggestions import did_you_mean
from schemas.version import VERSION

COMMON_HELP = (
    "Everywhere: -q, --quiet prints results and errors only; -v, --verbose prints more, and tracebacks of errors; "
    "--version. NO_COLOR is respected. --tyro-print-completion {bash,zsh,fish} prints a completion script."
)
LEVELS = {
    "-q": logging.WARNING,
    "--quiet": logging.WARNING,
    "-v": logging.DEBUG,
    "--verbose": logging.DEBUG,
}
HOUSES = ("jobs", "pipeline", "lamp_model", "schemas")


@dataclass(frozen=True)
class Words:
    """A command line without the options that both commands share."""

    arguments: list[str]
    level: int
    version: bool


def common_options(words: Sequence[str]) -> Words:
    """Take ``--version``, ``-q`` and ``-v`` out of a command line, wherever they stand before ``--``."""
    end = list(words).index("--") if "--" in words else len(words)
    before = list(words[:end])
    level = next((LEVELS[word] for word in reversed(before) if word in LEVELS), logging.INFO)
    rest = [word for word in before if word not in LEVELS and word != "--version"]
    return Words([*rest, *words[end:]], level, "--version" in before)


def start(program: str, words: Sequence[str]) -> list[str] | None:
    """Do what the common options say; the other arguments, or None when the version was printed and all is done."""
    common = common_options(words)
    if common.version:
        print(f"{program} {VERSION}")
        return None
    _log(program, common.level)
    show_progress(common.level < logging.WARNING)
    if os.environ.get("NO_COLOR"):
        tyro._experimental_options["ansi_codes"] = False
    return common.arguments


class _StandardError(logging.Handler):
    """Prints to what standard error is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def _log(program: str, level: int) -> None:
    """Messages of this project's loggers go to standard error as ``program: message``; those of libraries do not."""
    handler = _StandardError()
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    for house in HOUSES:
        logger = logging.getLogger(house)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def help_of(options: type) -> str:
    """The description in a command's help: the docstring of its options, and the options that are common to all."""
    return f"{inspect.cleandoc(options.__doc__ or '')}\n\n{COMMON_HELP}"


def check_subcommand(words: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a misspelt subcommand.

    Raises:
        UsageError: the first word is no option and none of the known ones.
    """
    if words and not words[0].startswith("-") and words[0] not in known:
        raise UsageError(
            f"there is no command {words[0]!r}; the commands are {', '.join(known)}{did_you_mean(words[0], known)}"
        )


def check_choices(options: type, words: Sequence[str]) -> None:
    """Refuse a value that is none of its option's choices, with the closest one.

    Args:
        options: a dataclass of options, or of groups of them.

    Raises:
        UsageError: there is such a value.
    """
    for option, choices in _choices(options):
        for value in _values(option, words):
            if value not in choices:
                raise UsageError(
                    f"{option} must be one of {', '.join(choices)}, found {value!r}{did_you_mean(value, choices)}"
                )


def _choices(options: type) -> Iterator[tuple[str, tuple[str, ...]]]:
    hints = typing.get_type_hints(options)
    for one in fields(options):
        hint = hints[one.name]
        if is_dataclass(hint):
            yield from _choices(typing.cast(type, hint))
        for kind in (hint, *typing.get_args(hint)):
            if typing.get_origin(kind) is typing.Literal:
                yield f"--{one.name.replace('_', '-')}", tuple(map(str, typing.get_args(kind)))


def _values(option: str, words: Sequence[str]) -> Iterator[str]:
    for place, word in enumerate(words):
        if word.startswith(f"{option}="):
            yield word.partition("=")[2]
        elif word == option:
            for value in words[place + 1 :]:
                if value.startswith("-"):
                    break
                yield value


def check_paths(options: Any) -> None:
    """Refuse addresses such as ``s3://bucket`` where options are paths of this machine; those named in the options'
    ``URLS`` may be addresses.

    Raises:
        UsageError: there is one, or one of no known kind.
    """
    for one in fields(options):
        value = getattr(options, one.name)
        if isinstance(value, Path):
            try:
                if one.name in getattr(type(options), "URLS", ()):
                    locate(value)
                    continue
                local_path(value, one.name if one.default is MISSING else f"--{one.name.replace('_', '-')}")
            except ValueError as error:
                raise UsageError(str(error)) from error


def in_groups(options: type) -> type:
    """A dataclass whose bases are groups of options, for the command line: help shows each group in a box of its own.

    Options keep their names. ``ungrouped`` makes the flat dataclass of what was parsed. Of the groups, the name is the
    title and the docstring the description; a field of the class itself that holds a dataclass is a group too.
    """
    groups: list[tuple[str, Any, Field]] = []
    for base in reversed(options.__bases__):  # as a dataclass orders the fields of its bases
        title = base.__name__.removesuffix("Options").lower()
        groups.append((title, Annotated[base, tyro.conf.OmitArgPrefixes], field(default_factory=base)))
    hints = typing.get_type_hints(options, include_extras=True)
    for one in fields(options):
        if one.name in options.__annotations__:
            default = one.default_factory if one.default_factory is not MISSING else None
            assert default is not None, f"{options.__name__}.{one.name} stands in no group"
            groups.append((one.name, hints[one.name], field(default_factory=default)))
    made = make_dataclass(f"{options.__name__}InGroups", groups, frozen=True)
    made.__doc__ = options.__doc__
    made.flat = options
    return made


def ungrouped(parsed: Any) -> Any:
    """The flat options of what was parsed with ``in_groups``; other options as they are."""
    flat = getattr(type(parsed), "flat", None)
    if flat is None:
        return parsed
    values: dict[str, Any] = {}
    for one in fields(parsed):
        value = getattr(parsed, one.name)
        if one.name in flat.__annotations__:
            values[one.name] = value
        else:
            values |= {inner.name: getattr(value, inner.name) for inner in fields(value)}
    return flat(**values)
