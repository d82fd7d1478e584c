"""A recipe file: several datasets, each with the options of ``lamp-data build``, and the weights with which they are
trained on.

::

    name: laptop
    defaults: {stride: 5, quality: {min_steps: 8}}
    datasets:
      libero: {weight: 2, depth: recorded}
      kitchen: {weight: 1, dataset: bridge, input: bridge/kitchen, action_options: {relabel: no}}

Names and values of options are those of the command line, with ``_`` or ``-``; ``*_options`` are tables. A section
comes to exactly the recipe that the command line with the same options comes to.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from jobs.cli.build_options import Build
from jobs.cli.option_tables import given, known_options
from jobs.cli.shipped import recipe_path
from schemas.locations import locate
from schemas.mixture import check_weights
from schemas.structured import SUFFIXES, BadFile, read_structured, structure

TOP = ("name", "defaults", "datasets")
FOR_ALL = ("executor", "executor_options", "chunk_megapixels", "cache", "keep_episodes", "overwrite", "dry_run", "json")
WHERE_AND_HOW = ("recipe", "input", "output", *FOR_ALL)
"""Options that say where and how to run and not what to make: they are given on the command line, for all datasets."""
OPTIONS = tuple(f.name for f in dataclasses.fields(Build) if f.name not in WHERE_AND_HOW)


@dataclass(frozen=True)
class Section:
    """One dataset of a recipe: its name is that of its folder in the output."""

    name: str
    weight: float | None
    build: Build


@dataclass(frozen=True)
class RecipeFile:
    """What a recipe file says; the sections' builds know where they read and write."""

    name: str
    output: Path
    sections: tuple[Section, ...]


def read_recipe_file(args: Build) -> RecipeFile:
    """The builds that ``--recipe`` names, below ``--input`` and ``--output``.

    Raises:
        BadFile: the file cannot be used; the message names the place in it.
        ValueError: options that a recipe says itself were given beside it.
    """
    assert args.recipe is not None
    path = recipe_path(args.recipe)
    _check_beside(args, path)
    values = read_structured(path)
    known_options(values, TOP, str(path))
    name, defaults = values.get("name", path.stem), _table(values.get("defaults"), f"{path}: defaults")
    tables = _table(values.get("datasets"), f"{path}: datasets")
    if not tables:
        raise BadFile(f"{path}: datasets must name at least one dataset")
    if not isinstance(name, str):
        raise BadFile(f"{path}: name must be text, found {name!r}")
    output = locate(args.output or Path("shards") / name)
    sections = tuple(_section(args, path, str(section), defaults, table, output) for section, table in tables.items())
    try:
        check_weights([section.weight for section in sections])
    except ValueError as error:
        raise BadFile(f"{path}: {error}") from error
    return RecipeFile(name, output, sections)


def _section(args: Build, path: Path, name: str, defaults: dict[str, Any], table: Any, output: Path) -> Section:
    where = f"{path}: datasets.{name}"
    if PurePosixPath(name).name != name or name.startswith("."):
        raise BadFile(f"{where}: the name becomes a folder's and must be a plain one")
    own = _options(_table(table, where), where, ("weight", "input"))
    merged = {"dataset": name, "input": name, **_merged(_options(defaults, f"{path}: defaults", ("input",)), own)}
    weight, below = merged.pop("weight", None), merged.pop("input")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float)):
        raise BadFile(f"{where}.weight must be a number, found {weight!r}")
    if not isinstance(below, str) or Path(below).is_absolute() or ".." in Path(below).parts:
        raise BadFile(f"{where}.input must be a folder below --input, found {below!r}")
    values = {key: _as_on_the_command_line(key, value, path.parent) for key, value in merged.items()}
    run = {key: getattr(args, key) for key in FOR_ALL}
    build = structure(Build, values, where)
    build = dataclasses.replace(build, **run, input=locate(args.input or Path("data")) / below, output=output / name)
    return Section(name, None if weight is None else float(weight), build)


def _options(table: dict[str, Any], where: str, beside: tuple[str, ...]) -> dict[str, Any]:
    """A table with ``_`` in its names, all of which are known."""
    return known_options(table, (*beside, *OPTIONS), where)


def _merged(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The section's options over the defaults; tables of both are joined."""
    joined = {**defaults, **own}
    for key in defaults.keys() & own.keys():
        if isinstance(defaults[key], dict) and isinstance(own[key], dict):
            joined[key] = {**defaults[key], **own[key]}
    return joined


def _as_on_the_command_line(key: str, value: Any, folder: Path) -> Any:
    """A value as the field of ``Build`` holds it: tables of options as NAME=VALUE, paths relative to the recipe's
    folder.
    """
    if key.endswith("_options") and isinstance(value, dict):
        return [f"{name}={_word(inner)}" for name, inner in value.items()]
    if key == "quality" and isinstance(value, dict):
        return {str(name).replace("-", "_"): inner for name, inner in value.items()}
    if key == "episodes":
        return [
            str(item) if isinstance(item, int) else item for item in (value if isinstance(value, list) else [value])
        ]
    if key == "dataset" and isinstance(value, str) and value.endswith(SUFFIXES):
        return str(folder / value)
    if key == "generated_instructions" and isinstance(value, str):
        return folder / value
    return value


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _check_beside(args: Build, path: Path) -> None:
    if beside := given(args, WHERE_AND_HOW):
        option = beside[0].replace("_", "-")
        raise ValueError(f"--{option} beside --recipe: write it into {path}, under defaults or a dataset")


def _table(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadFile(f"{where} must hold names with values, found {value!r}")
    return value
