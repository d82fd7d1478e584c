"""The choices that are compared: every combination of the parts named."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product

from pipeline.flow_sources import FlowSource, make_flow_source
from pipeline.licences import licences_of
from pipeline.recipe import PARTS, Recipe, measures_flow
from schemas.plugins import PluginChoice

TRACKED = "tracked"
"""The default flow source of a row that names only parts."""


def combinations(flows: Sequence[PluginChoice], parts: Mapping[str, Sequence[PluginChoice]]) -> dict[str, Recipe]:
    """Every combination, by name; a flow source is combined only with the parts that it uses.

    Raises:
        ValueError: an unknown plug-in, option or value, or a flow source that measures nothing.
    """
    found: dict[str, Recipe] = {}
    for flow in flows:
        if not measures_flow(flow.name):
            raise ValueError(f"--flow {flow.name} measures no flow, so there is nothing to evaluate: leave it out")
    for flow, *chosen in product(flows, *(parts[name] for name in PARTS)):
        recipe = replace(Recipe(PluginChoice("libero"), flow), **dict(zip(PARTS, chosen, strict=True)))
        spelled = recipe.as_dict()
        names = [
            choice.spelled(f"pipeline.{folder}")
            for (part, folder), choice in zip(PARTS.items(), chosen, strict=True)
            if part in spelled
        ]
        source = flow.spelled("pipeline.flow_sources")
        found.setdefault(" + ".join(names if source == TRACKED else [*names, source]), recipe)
    return found


def sources(recipes: Mapping[str, Recipe]) -> list[tuple[str, FlowSource]]:
    """Flow sources with their names. All are checked first, as for a build, and then constructed.

    Raises:
        BuildError: something that a plug-in needs is missing.
        ValueError: an unknown plug-in, option or value.
    """
    for recipe in recipes.values():
        recipe.check()
    return [(name, make_flow_source(recipe.chosen_flow)) for name, recipe in recipes.items()]


def choices(flows: Sequence[PluginChoice], parts: Mapping[str, Sequence[PluginChoice]]) -> list[tuple[str, FlowSource]]:
    """``sources`` of ``combinations``."""
    return sources(combinations(flows, parts))


def licences(recipes: Iterable[Recipe]) -> dict[str, str]:
    """The licence terms of all plug-ins that the recipes use, except the dataset's."""
    found = {what: said for recipe in recipes for what, said in licences_of(recipe).items()}
    return {what: said for what, said in found.items() if not what.startswith("dataset ")}
