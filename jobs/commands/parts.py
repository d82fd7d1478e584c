"""``lamp-data parts``: every part that can be chosen, its options, their defaults and what they mean."""

import dataclasses
import inspect
import re
import textwrap
import typing
from dataclasses import dataclass
from typing import Any

import tyro

from jobs.cli.exit_codes import UsageError
from schemas.plugins import MissingDependency, load_plugin, plugin_names
from schemas.suggestions import did_you_mean

ROOMS = {
    "readers": ("pipeline.readers", "--dataset, --dataset-options"),
    "flow-sources": ("pipeline.flow_sources", "--flow, --flow-options"),
    "trackers": ("pipeline.trackers", "--tracker, --tracker-options"),
    "depth": ("pipeline.depth", "--depth, --depth-options"),
    "cameras": ("pipeline.cameras", "--camera, --camera-options"),
    "actions": ("pipeline.actions", "--actions, --action-options"),
    "shard-formats": ("schemas.shard_formats", "--format"),
    "executors": ("jobs.executors", "--executor, --executor-options"),
    "backbones": ("lamp_model.backbones", "lamp-train --backbone"),
    "fusions": ("lamp_model.fusions", "lamp-train --fusion"),
    "action-heads": ("lamp_model.action_heads", "lamp-train --action-head"),
}
"""Folders of plug-ins, and the options that select from them."""
SET_BY_COMMAND = ("feature_width", "motion_width", "architecture_only")
"""Fields of configs that the command sets from other options."""
WIDTH = 100


@dataclass(frozen=True)
class Parts:
    """List the parts that can be chosen (datasets, trackers, depth, backbones ...), or all options of those named."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Parts such as lk, or kinds such as trackers. Without a name: the names of all."""


def parts_command(args: Parts) -> int:
    """Print the parts or their options; returns the exit code."""
    if not args.names:
        for room, (package, said) in ROOMS.items():
            print(f"{room:<14} {', '.join(plugin_names(package))}\n{'':<14} {said}")
        print("\nlamp-data parts NAME ... shows the options of a part, or of all parts of a kind.")
        return 0
    found = [one for name in args.names for one in _named(name)]
    print("\n\n".join(_described(room, name) for room, name in dict.fromkeys(found)))
    return 0


def _named(said: str) -> list[tuple[str, str]]:
    """Package and name of the parts that a word names.

    Raises:
        UsageError: it names none.
    """
    word = said.replace("_", "-")
    if word in ROOMS:
        return [(word, name) for name in plugin_names(ROOMS[word][0])]
    found = [(room, name) for room, (package, _) in ROOMS.items() for name in plugin_names(package) if name == word]
    if not found:
        known = [*ROOMS, *(name for package, _ in ROOMS.values() for name in plugin_names(package))]
        raise UsageError(f"no part or kind of parts is called {said!r}{did_you_mean(word, known)}")
    return found


def _described(room: str, name: str) -> str:
    title = f"{name} ({room})"
    try:
        module = load_plugin(ROOMS[room][0], name)
    except MissingDependency as error:
        return f"{title}\n  {error}"
    about = (inspect.getdoc(module) or "").split("\n\n")[0]
    lines = [title, *textwrap.wrap(" ".join(about.split()), WIDTH, initial_indent="  ", subsequent_indent="  ")]
    meanings, hints = attributes_of(module.Config), typing.get_type_hints(module.Config)
    fields = [one for one in dataclasses.fields(module.Config) if is_option(one.name, hints[one.name])]
    if not fields:
        lines.append("  no options")
    for one in fields:
        lines.append(f"  {one.name}={_default(one)}  ({_kind(hints[one.name])})")
        lines += textwrap.wrap(meanings.get(one.name, ""), WIDTH - 6, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def is_option(name: str, hint: Any) -> bool:
    """Whether a person sets this field of a config; the others are set by the command from other options."""
    return name not in SET_BY_COMMAND and not any(
        dataclasses.is_dataclass(kind) for kind in (hint, *typing.get_args(hint))
    )


def attributes_of(config: type) -> dict[str, str]:
    """Descriptions from the ``Attributes:`` sections in the docstrings of a config and its bases, by name."""
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__):
        section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)*)", inspect.cleandoc(kind.__doc__ or ""), re.MULTILINE)
        entries = textwrap.dedent(section[1]) if section else ""
        for entry in re.finditer(r"^([\w, ]+):((?:.*\n?)(?:[ ]+.*\n?)*)", entries, re.MULTILINE):
            text = " ".join(entry[2].split())
            found |= {name.strip(): text for name in entry[1].split(",")}
    return found


def _default(field: dataclasses.Field) -> Any:
    """The default as it would be typed on the command line."""
    factory = field.default_factory
    value = field.default if factory is dataclasses.MISSING else factory()
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return repr(value) if isinstance(value, str) and (not value or "\n" in value) else value


def _kind(hint: Any) -> str:
    """A type as a person reads it: ``int``, ``int or none``, ``one of a, b``."""
    choices = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, choices))}"
    if type(None) in choices:
        return " or ".join([*(_kind(one) for one in choices if one is not type(None)), "none"])
    return hint.__name__ if isinstance(hint, type) and not choices else str(hint).replace("typing.", "")
