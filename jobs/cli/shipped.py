"""Recipes and mapping files that come with the package, found by name."""

from pathlib import Path

from schemas.structured import SUFFIXES

SHIPPED = Path(__file__).parents[1] / "recipes"
"""Files for ``lamp-data build --recipe``; ``mappings`` holds those for ``--dataset``, ``train`` for ``lamp-train``,
``evaluate`` what the cells of the paper's tables are made of."""


def shipped_names(folder: str = "") -> list[str]:
    """The names in a folder of the shipped files, sorted."""
    return sorted(path.stem for path in (SHIPPED / folder).glob("*.yaml"))


def recipe_path(said: Path, folder: str = "") -> Path:
    """The file that ``--recipe`` means: a path, or the name of a shipped file when no file has that path."""
    name = str(said)
    if not said.exists() and not name.endswith(SUFFIXES) and name in shipped_names(folder):
        return SHIPPED / folder / f"{name}.yaml"
    return said


def dataset_said(said: str) -> str:
    """What ``--dataset`` means: the path of a shipped mapping file when the name is that of one, else what was said."""
    return str(SHIPPED / "mappings" / f"{said}.yaml") if said in shipped_names("mappings") else said
