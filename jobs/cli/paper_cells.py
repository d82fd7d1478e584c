"""What to run for a cell of the paper's tables, from ``recipes/evaluate/paper_cells.yaml``."""

from dataclasses import dataclass

from jobs.cli.shipped import SHIPPED
from schemas.structured import read_structured, structure

FILE = SHIPPED / "evaluate" / "paper_cells.yaml"


@dataclass(frozen=True)
class CellRecipe:
    """How a policy is trained.

    Attributes:
        data: names of builds, ``{target}`` for the benchmark's own dataset.
        before: names of stages that come first.
        train: the command of the last stage.
    """

    data: tuple[str, ...]
    train: str
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableRecipe:
    """Which dataset a table's policies are trained on, for how many actions at once, and where they act."""

    target: str
    benchmark: str
    chunk: int


@dataclass(frozen=True)
class PaperCells:
    """The file's contents."""

    data: dict[str, str]
    stages: dict[str, str]
    cells: dict[str, CellRecipe]
    tables: dict[str, TableRecipe]
    evaluation: str


def read_cells() -> PaperCells:
    """The shipped recipes of the paper's cells."""
    return structure(PaperCells, read_structured(FILE), str(FILE))


def commands_of(table: str, cell: str) -> list[str]:
    """The commands that make a cell, in order: data, stage 1, stage 2, evaluation."""
    recipes = read_cells()
    where, how = recipes.tables[table], recipes.cells[cell]
    names = {"target": where.target, "benchmark": where.benchmark, "cell": cell, "chunk": where.chunk}
    data = [recipes.data[name.format(**names)] for name in how.data]
    return [*data, *(recipes.stages[name] for name in how.before), how.train.format(**names),
            recipes.evaluation.format(**names)]  # fmt: skip
