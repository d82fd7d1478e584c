"""Detects what a build would replace in its output folder: another recipe or layout, or episodes that it lacks itself.

Resuming a build, adding episodes to it and building it again do not count as replacing. A build that was begun is
recognised by ``begun.json`` in its work folder, a finished one by its manifest.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.build.selection import Selection
from pipeline.build.work_folder import EPISODE_STORE, WORK
from pipeline.recipe import Recipe
from schemas.episode import EpisodeRef
from schemas.files import canonical_json, write_whole
from schemas.manifest import EPISODES, BadManifest, read_manifest

BEGUN = "begun.json"
"""File in the work folder that records what the begun build makes, and from which folder."""
SHOWN = 5
"""Maximum number of differences in a message."""
OPTIONS = {
    "dataset": "--dataset",
    "flow": "--flow",
    "tracker": "--tracker",
    "depth": "--depth",
    "camera": "--camera",
    "actions": "--action",
}
"""Command line option of each plug-in in a recipe; its own options are set by ``<option>-options``."""
RENAMED = {"windows.horizon": "--horizon-steps", "actions.name": "--actions"}


class WouldReplace(Exception):
    """This build would replace what the output holds; the message names the differences."""


@dataclass(frozen=True)
class Asked:
    """What a build makes, as stored in ``begun.json``.

    Attributes:
        recipe: with every option spelled out (``Recipe.as_dict``).
        layout: format, samples per shard and seed.
        selection: which episodes (``Selection.as_dict``).
        source: the dataset's folder.
    """

    recipe: dict[str, Any]
    layout: dict[str, Any]
    selection: dict[str, Any]
    source: str | None

    @classmethod
    def of(cls, recipe: Recipe, layout: Mapping[str, Any], selection: Selection, source: Path) -> "Asked":
        """Make it from the arguments of a build."""
        plain = json.loads(canonical_json([recipe.as_dict(), dict(layout), selection.as_dict()]))
        return cls(*plain, source=str(source))

    def write(self, work: Path) -> None:
        """Write it to a work folder."""
        write_whole(work / BEGUN, canonical_json(vars(self)))


def check_replacing(output: Path, asked: Asked, refs: Sequence[EpisodeRef], unreadable: str | None = None) -> None:
    """Refuse to replace what is in an output folder.

    Args:
        refs: the episodes of the build.
        unreadable: why a file of the dataset cannot be read, if one cannot.

    Raises:
        WouldReplace: the folder holds a finished or begun build of another recipe or layout, or a finished one of
            episodes that are not among ``refs``.
    """
    begun, manifest = _begun(output), None
    try:
        manifest = read_manifest(output)
    except BadManifest:  # there is none, or it is unreadable
        if begun is None:
            return
    if manifest is None:
        there, kind, lost, total = begun, "an unfinished build", 0, 0
    else:
        layout = {"format": manifest.format, **{k: manifest.layout.get(k) for k in ("samples_per_shard", "seed")}}
        source = begun.source if begun is not None and begun.recipe == manifest.recipe else None
        there = Asked(manifest.recipe, layout, manifest.layout.get("selection", {}), source)
        digests = _digests(output / EPISODES)
        kind, lost, total = "a finished build", len(digests - {ref.digest for ref in refs}), len(digests)
    assert there is not None
    differences = list(_differences(there, asked, bool(lost)))
    if lost:
        differences.append(f"{lost} of its {total} episodes would go{f', {unreadable}' if unreadable else ''}")
    if differences:
        more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise WouldReplace(
            f"{output} holds {kind} that this one would replace ({'; '.join(differences[:SHOWN])}{more}): give "
            "--overwrite to replace it, or choose another --output"
        )


def _begun(output: Path) -> Asked | None:
    """The build begun in a folder; None where nothing has been made yet."""
    work = output / WORK
    if not any((work / EPISODE_STORE).glob("??/*")) and not any(output.glob(f"*-{'[0-9]' * 6}.*")):
        return None
    try:
        return Asked(**json.loads((work / BEGUN).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _digests(path: Path) -> set[str]:
    """Digests of the episodes in a finished build; empty if its list cannot be read."""
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    except (OSError, ValueError):
        return set()
    return {line["digest"] for line in lines if "digest" in line}


def _differences(there: Asked, asked: Asked, lost: bool) -> Iterable[str]:
    """``--stride: was 5, is 3``. Selection and folder count only if episodes would be lost."""
    pairs = [(there.recipe, asked.recipe), (there.layout, asked.layout)]
    if lost:
        pairs.append((there.selection, asked.selection))
    for before, after in pairs:
        old, new = _flat(before), _flat(after)
        for name in [*old, *(name for name in new if name not in old)]:
            if old.get(name) != new.get(name):
                yield f"{_option(name)}: was {_said(old.get(name))}, is {_said(new.get(name))}"
    if lost and there.source not in (None, asked.source):
        yield f"--input: was {there.source}, is {asked.source}"


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value
    return flat


def _option(name: str) -> str:
    """The command line option that sets a value of a recipe."""
    first, _, rest = name.partition(".")
    if name in RENAMED:
        return RENAMED[name]
    if first in OPTIONS:
        return OPTIONS[first] if rest == "name" else f"{OPTIONS[first]}-options {rest.removeprefix('options.')}"
    return f"--{(rest if first == 'windows' else name).replace('_', '-')}"


def _said(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "not set" if value is None else str(value)
