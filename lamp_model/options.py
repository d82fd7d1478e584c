"""Options: the fields of a run's config that a user can set, each declared once, at its field.

An ``Option`` in a field's annotation declares it. The command line, preset files and checks derive from that:
``options_in`` lists the options, ``with_options`` sets values in a tree of configs, ``contradictions`` compares.
"""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from schemas.plugins import PluginChoice, configure, load_plugin

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Choice:
    """The choice of a plug-in, written ``name:option=value,...``; its options are in the field ``<name>_options``.

    Attributes:
        package: the plug-ins' folder.
        filled: options that are set from the rest of the model.
        carries: when the plug-in changes, keep those options of the previous one that the new one also has.
    """

    package: str
    filled: tuple[str, ...]
    carries: bool = False


@dataclass(frozen=True)
class Option:
    """An option.

    Attributes:
        help: help text.
        name: where another config has a field of the same name; None: named like its field.
        stage: the only stage that has it; None: both.
        needs: ``motion``: only used with a Motion Expert; ``joint``: in stage 2 only used with the joint objective.
        of_motion: set when the Motion Expert is trained; stage 2 takes the value over.
        may_change: a run may be resumed with another value.
        plugin: the value names a plug-in.
    """

    help: str
    name: str | None = None
    stage: Literal[1, 2] | None = None
    needs: Literal["motion", "joint"] | None = None
    of_motion: bool = False
    may_change: bool = False
    plugin: Choice | None = None


@dataclass(frozen=True)
class Place:
    """The location of an option in a tree of configs.

    Attributes:
        path: names of fields from the root.
        kind: the field's type.
    """

    name: str
    path: tuple[str, ...]
    kind: Any
    option: Option = field(repr=False)

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return f"--{self.name.replace('_', '-')}"


def options_in(kind: type, path: tuple[str, ...] = ()) -> dict[str, Place]:
    """All options of a tree of dataclasses by name, in the order of the fields."""
    hints, found = typing.get_type_hints(kind, include_extras=True), {}
    for one in dataclasses.fields(kind):
        hint, here = hints[one.name], (*path, one.name)
        if typing.get_origin(hint) is Annotated:
            hint, *notes = typing.get_args(hint)
            for option in (note for note in notes if isinstance(note, Option)):
                name = option.name or one.name
                found[name] = Place(name, here, hint, option)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found |= options_in(hint, here)
    return found


def value_at(tree: Any, path: tuple[str, ...]) -> Any:
    """The value of a field."""
    for name in path:
        tree = getattr(tree, name)
    return tree


def with_options(tree: Tree, asked: Mapping[str, Any]) -> Tree:
    """A copy of the tree with the requested values, by option name. All fields of one config are set together, because
    they are checked against each other.

    Raises:
        ValueError: there is no such option, or a value is invalid.
    """
    places, changes = options_in(type(tree)), {}
    for name, value in asked.items():
        if name not in places:
            raise ValueError(f"training has no option {name!r}; there are: {', '.join(places)}")
        place = places[name]
        if place.option.plugin is None:
            changes[place.path] = value
            continue
        parent = value_at(tree, place.path[:-1])
        before = PluginChoice(getattr(parent, name), getattr(parent, f"{name}_options"))
        changes[place.path] = PluginChoice.parse(value).name
        changes[(*place.path[:-1], f"{name}_options")] = plugin_options(place.option.plugin, value, before)
    return _changed(tree, changes)


def _changed(tree: Any, changes: Mapping[tuple[str, ...], Any]) -> Any:
    """A copy of a frozen tree with new values at some paths."""
    own = {path[0]: value for path, value in changes.items() if len(path) == 1}
    for name in {path[0] for path in changes if len(path) > 1}:
        below = {path[1:]: value for path, value in changes.items() if path[0] == name and len(path) > 1}
        own[name] = _changed(getattr(tree, name), below)
    return dataclasses.replace(tree, **own) if own else tree


def contradictions(tree: Any, asked: Mapping[str, Any]) -> list[tuple[Place, Any, Any]]:
    """(option, value in the tree, requested value) for all that differ. Of a plug-in's options, only the requested ones
    are compared.

    Raises:
        ValueError: a plug-in's options are invalid.
    """
    places, differing = options_in(type(tree)), []
    for name, value in asked.items():
        place, has = places[name], value_at(tree, places[name].path)
        if place.option.plugin is not None:
            options = getattr(value_at(tree, place.path[:-1]), f"{name}_options")
            has = _other_plugin(place.option.plugin, value, PluginChoice(has, options))
        if (has is not None and has != value) or (place.option.plugin is None and has != value):
            differing.append((place, has, value))
    return differing


def _other_plugin(choice: Choice, asked: str, has: PluginChoice) -> str | None:
    """The configured plug-in with those of its options that differ from the requested ones; None where none differ."""
    if PluginChoice.parse(asked).name != has.name:
        return has.name
    options = plugin_options(choice, asked)
    defaults = {f.name: f.default for f in dataclasses.fields(load_plugin(choice.package, has.name).Config)}
    there = {**defaults, **has.options}
    others = {key: there[key] for key, value in options.items() if there[key] != value}
    return str(PluginChoice(has.name, others)) if others else None


def plugin_options(choice: Choice, text: str, before: PluginChoice | None = None) -> dict[str, Any]:
    """The given options of a plug-in, merged with those it keeps of the previous one; no weights are read.

    Raises:
        ValueError: the plug-in or an option is unknown, or a value is invalid.
    """
    asked = PluginChoice.parse(text)
    given = {key.replace("-", "_"): value for key, value in asked.options.items()}
    for key in given:
        if key in choice.filled:
            raise ValueError(f"{asked.name!r} takes {key!r} from the rest of the model: leave it out")
    names = {f.name for f in dataclasses.fields(load_plugin(choice.package, asked.name).Config)}
    kept: dict[str, Any] = {}
    if before is not None and (choice.carries or before.name == asked.name):
        kept = {key: value for key, value in before.options.items() if key in names}
    taken = {**kept, **given}
    try:
        config = configure(choice.package, asked.name, {**taken, **_width_for(choice, taken)})
    except ValueError as error:  # the config's own message does not name the plug-in
        raise error if asked.name in str(error) else ValueError(f"{asked.name}: {error}") from error
    return {key: getattr(config, key) for key in taken}


def _width_for(choice: Choice, options: Mapping[str, Any]) -> dict[str, int]:
    """A feature width that is divisible by the number of heads; the real width is not known before the model exists."""
    heads = str(options.get("heads", ""))
    known = "feature_width" in choice.filled and heads.isdecimal() and int(heads)
    return {"feature_width": int(heads)} if known else {}
