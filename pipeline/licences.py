"""The terms under which shards may be used: those of the dataset and of every plug-in that has its own.

A plug-in module declares them as ``LICENCE``, or as ``licence(config)`` where they depend on the weights. Without a
declaration, or with None, use is not restricted.
"""

import re
from collections.abc import Mapping

from pipeline.recipe import Recipe

NON_COMMERCIAL = re.compile(r"\bNC\b|\bnon-?commercial", re.IGNORECASE)


def licences_of(recipe: Recipe) -> dict[str, str]:
    """Licences by what they apply to, e.g. ``tracker cotracker3``; the dataset's comes first."""
    found = {f"dataset {recipe.info.name}": recipe.info.licence}
    for what, module, config in recipe.plugins():
        said = module.licence(config) if hasattr(module, "licence") else getattr(module, "LICENCE", None)
        if said:
            found[what] = said
    return found


def restrictions(licences: Mapping[str, str]) -> list[str]:
    """Everything that does not allow commercial use, each with its licence."""
    return [f"{what}: {said}" for what, said in licences.items() if NON_COMMERCIAL.search(said)]


def restriction_words(licences: Mapping[str, str], what: str = "these shards are") -> str | None:
    """A sentence where commercial use is restricted, else None; ``what`` names the thing restricted, and the verb."""
    found = restrictions(licences)
    return f"{what} not for commercial use: {'; '.join(found)}" if found else None
