"""Plug-ins: a folder is a registry, and each module in it is one plug-in; other packages can add more.

A plug-in outside this package is named by its module's dotted path (``mypackage.mymodule``), or by an entry point of
the folder's group (``lamp.trackers`` for ``pipeline.trackers``), whose value is the module's dotted path.

A plug-in module defines ``Config``, a frozen dataclass, and ``build(config)``. Listing the names of a folder imports
none of them; loading one imports that module only. A module's name is the plug-in's name with ``-`` written as ``_``.

It may also define ``check(config)``, called once in the main process before any work: it fetches what ``build`` will
need in every worker and raises ``MissingDependency`` if that is unavailable (a config's ``device`` is checked by the
caller); ``LIBRARIES``, the names of installed packages whose versions affect its results; and ``THREAD_SAFE``, whether
several threads may use what ``build`` gives at once (by default only that of this package's own modules).

Two marks in the metadata of a config's field are for paths. ``place``: where files lie on this machine; it is not part
of the recipe. ``contents``: a path, or a name that is no path here; the recipe records the digest of the contents.
"""

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
import typing
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from schemas.errors import MissingDependency, MissingWeights, first_line
from schemas.files import contents_digest
from schemas.optional import missing_package
from schemas.suggestions import did_you_mean

__all__ = [
    "MissingDependency",
    "MissingWeights",
    "PluginChoice",
    "UnknownPlugin",
    "build_plugin",
    "configure",
    "configured",
    "entry_point_group",
    "is_module_elsewhere",
    "load_plugin",
    "parse_options",
    "plugin_names",
    "recorded_options",
]


@dataclasses.dataclass(frozen=True)
class PluginChoice:
    """A plug-in by name with its options; workers build it from this and never receive the built object."""

    name: str
    options: typing.Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def configure(self, package: str) -> Any:
        """Its ``Config``; see ``configure``."""
        return configure(package, self.name, self.options)

    @classmethod
    def parse(cls, text: str) -> "PluginChoice":
        """``lk`` or ``lk:window=9,levels=2``.

        Raises:
            ValueError: an option has no ``=``.
        """
        name, _, options = text.partition(":")
        return cls(name, parse_options(options.split(",") if options else ()))

    @classmethod
    def said(cls, text: str, more: typing.Iterable[str]) -> "PluginChoice":
        """Parse ``lk:window=9`` and add more options, each NAME=VALUE.

        Raises:
            ValueError: an option has no ``=``, or is given twice.
        """
        choice, beside = cls.parse(text), parse_options(more)
        if twice := sorted(choice.options.keys() & beside.keys()):
            raise ValueError(f"{choice.name}: the option {twice[0]} is given twice")
        return cls(choice.name, {**choice.options, **beside})

    def spelled(self, package: str) -> str:
        """The choice as text, e.g. ``lk:window=9``, without options that only say where files lie on this machine, and
        without the folders of files whose contents count.
        """
        fields = {f.name: f.metadata for f in dataclasses.fields(load_plugin(package, self.name).Config)}
        of = {key: fields[key.replace("-", "_")] for key in self.options}
        decides = {
            key: Path(value).name if of[key].get("contents") and Path(str(value)).exists() else value
            for key, value in self.options.items()
            if not of[key].get("place")
        }
        return str(PluginChoice(self.name, decides))

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name


class UnknownPlugin(ValueError):
    """The requested name is not a plug-in of that folder."""


def plugin_names(package: str) -> list[str]:
    """The plug-ins in a package's folder and its entry points, sorted, without importing any of them."""
    return sorted({*own_plugin_names(package), *_entry_points(package)})


def entry_point_group(package: str) -> str:
    """The group under which other packages add plug-ins to a folder."""
    return f"lamp.{package.rsplit('.', 1)[-1]}"


def is_module_elsewhere(name: str) -> bool:
    """Whether a name is that of a module outside the plug-in folders: a dotted path, or a module that Python finds."""
    words = name.split(".")
    return all(word.isidentifier() for word in words) and (len(words) > 1 or importlib.util.find_spec(name) is not None)


def own_plugin_names(package: str) -> tuple[str, ...]:
    """The plug-ins in a package's folder, sorted, without importing any of them."""
    spec = importlib.util.find_spec(package)  # the package itself may import what is not installed
    return _names_in(tuple(spec.submodule_search_locations or ()) if spec is not None else ())


def _entry_points(package: str) -> dict[str, str]:
    """Dotted paths of modules by the folder's entry point names; the folder's own plug-ins take precedence."""
    return _entry_points_on(entry_point_group(package), tuple(sys.path))


@cache
def _entry_points_on(group: str, path: tuple[str, ...]) -> dict[str, str]:
    """Entry points of a group with this ``sys.path``. Finding them opens a file of every installed package, and a build
    asks several times for each episode."""
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group=group)}


@cache
def _names_in(folders: tuple[str, ...]) -> tuple[str, ...]:
    found = (m.name for m in pkgutil.iter_modules(folders) if not m.name.startswith("_"))
    return tuple(sorted(name.replace("_", "-") for name in found))


def load_plugin(package: str, name: str) -> ModuleType:
    """The plug-in's module: of the folder, of an entry point, or of a dotted path.

    Raises:
        UnknownPlugin: there is no such module, or it is no plug-in; the message lists the available ones.
        MissingDependency: it needs a package of an extra that is not installed.
    """
    if name not in own_plugin_names(package):
        return _elsewhere(package, name)
    try:
        return importlib.import_module(f"{package}.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        missing = missing_package(error, "depth" if package == "pipeline.depth" else None)
        if missing is None:
            raise
        raise missing from error


def _elsewhere(package: str, name: str) -> ModuleType:
    """A plug-in of another package.

    Raises:
        UnknownPlugin: there is none of that name, or it is no plug-in.
    """
    kind = package.rsplit(".", 1)[-1].removesuffix("s").replace("_", " ")
    path = _entry_points(package).get(name, name)
    if not is_module_elsewhere(path):
        known = plugin_names(package)
        raise UnknownPlugin(f"no {kind} is called {name!r}; there are: {', '.join(known)}{did_you_mean(name, known)}")
    try:
        module = importlib.import_module(path)
    except Exception as error:
        raise UnknownPlugin(
            f"the {kind} {name!r} cannot be imported ({type(error).__name__}: {first_line(error)}); install its "
            "package or put its folder on PYTHONPATH"
        ) from error
    lacking = [word for word in ("Config", "build") if not hasattr(module, word)]
    if lacking or not dataclasses.is_dataclass(module.Config):
        said = f"it has no {' and no '.join(lacking)}" if lacking else "its Config is no dataclass"
        raise UnknownPlugin(
            f"the module {path} is no {kind}: {said}; a plug-in defines Config, a frozen dataclass, and build(config)"
        )
    return module


def configure(package: str, name: str, options: typing.Mapping[str, Any] | None = None) -> Any:
    """The plug-in's ``Config`` with some fields set; strings are read as the field's type.

    Raises:
        UnknownPlugin: no such plug-in.
        ValueError: an option is not a field of the config, or its value does not fit.
    """
    return configured(load_plugin(package, name).Config, name, options)


def configured(config_type: Any, name: str, options: typing.Mapping[str, Any] | None = None) -> Any:
    """A config with some fields set; strings are read as the field's type.

    Args:
        name: whose config it is, for messages.

    Raises:
        ValueError: an option is not a field of the config, or its value does not fit.
    """
    fields = {f.name: f for f in dataclasses.fields(config_type)}
    hints = typing.get_type_hints(config_type)
    values = {}
    for key, value in (options or {}).items():
        key = key.replace("-", "_")
        if key not in fields:
            own = [name for name in fields if name in config_type.__annotations__]  # listed before inherited ones
            has = ", ".join([*own, *(name for name in fields if name not in own)]) or "none"
            raise ValueError(f"{name!r} has no option {key!r}; its options are: {has}{did_you_mean(key, fields)}")
        values[key] = (_read if isinstance(value, str) else _fitting)(value, hints[key], f"{name}.{key}")
    return config_type(**values)


def build_plugin(package: str, choice: PluginChoice) -> Any:
    """Build the chosen plug-in. Each folder has a function that calls this and declares the type of the result, such as
    ``pipeline.trackers.make_tracker``.

    Raises:
        UnknownPlugin: no such plug-in.
        MissingDependency: something it needs is missing.
        ValueError: an unknown option or value.
    """
    return load_plugin(package, choice.name).build(choice.configure(package))


def recorded_options(config: Any) -> dict[str, Any]:
    """A config's options as a recipe records them, the same on every machine: ``place`` fields are left out, and
    ``contents`` fields are replaced by the digest of the contents.

    Raises:
        OSError: a path cannot be read.
    """
    values = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        value = values[field.name]
        if field.metadata.get("place"):
            del values[field.name]
        elif field.metadata.get("contents") and value is not None and Path(value).exists():
            values[field.name] = f"sha256:{contents_digest(Path(value))}"
    return values


def parse_options(words: typing.Iterable[str]) -> dict[str, str]:
    """``["window=9", "levels=2"]`` as a dict.

    Raises:
        ValueError: a word has no ``=``.
    """
    options = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise ValueError(f"an option is written NAME=VALUE, found {word!r}")
        options[key] = value
    return options


def _fitting(value: Any, kind: Any, where: str) -> Any:
    """Convert a value that is not a string to the field's type, so that 1 and 1.0 give the same recipe digest."""
    kinds = typing.get_args(kind) or (kind,)
    if float in kinds and type(value) is int:
        return float(value)
    plain = [k for k in kinds if k in (bool, int, float, str)]
    if plain and value is not None and type(value) not in kinds:
        raise ValueError(f"{where} must be {plain[0].__name__}, found {value!r}")
    return value


def _read(text: str, kind: Any, where: str) -> Any:
    if text.lower() == "none" and type(None) in typing.get_args(kind):
        return None
    if type(None) in typing.get_args(kind):
        (kind, *_) = (k for k in typing.get_args(kind) if k is not type(None))
    target, *_ = choices = typing.get_args(kind) or (kind,)
    if typing.get_origin(kind) is typing.Literal:
        if text in choices:
            return text
        raise ValueError(f"{where} must be one of {', '.join(map(str, choices))}, found {text!r}")
    try:
        if target is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        return target(text)
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{where} must be {getattr(target, '__name__', target)}, found {text!r}") from None
