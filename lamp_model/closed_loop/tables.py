"""Fills the paper's tables from folders of results; cells without a run stay open."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamp_model.closed_loop.benchmarks import SUITES, Suite
from lamp_model.closed_loop.paper import AVERAGE, CELLS, TABLES, PaperTable
from lamp_model.closed_loop.results import (
    EVALUATION,
    BadResults,
    EpisodeResult,
    Evaluation,
    read_evaluation,
    read_results,
)
from lamp_model.closed_loop.summary import Rate, rate_of


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        measured: None where there is no run.
        paper: the published figure in per cent, where it is known here.
        short: fewer episodes than published were run, so the figure is a first look.
        departures: what of the protocol was not as published; see ``Protocol.departures``.
    """

    measured: Rate | None
    paper: float | None
    short: bool = False
    departures: str = ""


@dataclass(frozen=True)
class Filled:
    """A table with its cells by row and column."""

    table: PaperTable
    cells: dict[str, dict[str, Cell]]


def find_evaluations(folder: Path) -> dict[str, list[Path]]:
    """Folders of results in a folder, by the cell that their policy stands for.

    Raises:
        BadResults: there are none, one cannot be read, or a cell is none of the paper's.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob(EVALUATION)):
        cell = read_evaluation(path.parent).policy.cell
        if cell:
            found.setdefault(cell, []).append(path.parent)
    if not found:
        raise BadResults(f"{folder} holds no results of lamp-policy evaluate that stand for a cell of a table (--cell)")
    if wrong := [cell for cell in found if cell not in CELLS]:
        raise BadResults(f"{found[wrong[0]][0]} stands for {wrong[0]!r}; the tables have {', '.join(CELLS)}")
    return found


def fill(folder: Path) -> list[Filled]:
    """All tables, filled with what a folder holds.

    Raises:
        BadResults: see ``find_evaluations``; or two folders of one cell hold the same suite, or other protocols.
    """
    results: dict[str, list[EpisodeResult]] = {}
    departures: dict[str, str] = {}
    for cell, folders in find_evaluations(folder).items():
        results[cell] = _merged(folders)
        departures[cell] = read_evaluation(folders[0]).protocol.departures
    return [
        Filled(table, {row: _row(table, row, results.get(row, []), departures.get(row, "")) for row in table.rows})
        for table in TABLES
    ]


def _merged(folders: Sequence[Path]) -> list[EpisodeResult]:
    """The results of folders that stand for the same cell: of one policy under one protocol, or nothing is averaged."""
    first: Evaluation = read_evaluation(folders[0])
    seen: dict[str, Path] = {}
    results: list[EpisodeResult] = []
    for folder in folders:
        one = read_evaluation(folder)
        if differences := first.protocol.differences(one.protocol):
            raise BadResults(
                f"{folders[0]} and {folder} stand for the same cell {first.policy.cell!r} but followed different "
                f"protocols ({differences}): give one of them another --cell, or move it away"
            )
        some = read_results(folder)
        for suite in sorted({result.suite for result in some}):
            if suite in seen:
                raise BadResults(
                    f"{seen[suite]} and {folder} both hold {suite} for the cell {first.policy.cell!r}: give one of "
                    "them another --cell, or move it away"
                )
            seen[suite] = folder
        results += some
    return results


def _row(table: PaperTable, row: str, results: Sequence[EpisodeResult], departures: str) -> dict[str, Cell]:
    published = table.published.get(row, {})
    cells = {}
    for column in table.columns:
        suites = [suite for suite in SUITES.values() if column in (suite.name, suite.group)]
        names = {suite.name for suite in suites}
        some = [result for result in results if result.suite in names]
        measured = rate_of(column, some) if some else None
        cells[column] = Cell(measured, published.get(column), _short(suites, some), departures if some else "")
    short, average = any(cell.short for cell in cells.values()), _average(list(cells.values()))
    cells[AVERAGE] = Cell(average, published.get(AVERAGE), short, departures if average else "")
    return cells


def _average(cells: Sequence[Cell]) -> Rate | None:
    """Over all columns, each episode counted once; only where every column has been run."""
    rates = [cell.measured for cell in cells]
    if any(rate is None or not rate.episodes for rate in rates):
        return None
    whole = [rate for rate in rates if rate is not None]
    return Rate(AVERAGE, sum(r.successes for r in whole), sum(r.episodes for r in whole), sum(r.errors for r in whole))


def _short(suites: Sequence[Suite], results: Sequence[EpisodeResult]) -> bool:
    """Whether a task that was run lacks published episodes, or a suite of the column lacks tasks of LIBERO's ten."""
    for suite in suites:
        mine = [result for result in results if result.suite == suite.name and result.success is not None]
        counts: dict[int, int] = {}
        for result in mine:
            counts[result.task] = counts.get(result.task, 0) + 1
        tasks = suite.tasks if suite.tasks is not None else len(counts)
        if len(counts) < tasks or any(count < suite.episodes for count in counts.values()):
            return bool(results)
    return False


def as_markdown(filled: Sequence[Filled]) -> str:
    """The tables, each cell as ``measured (paper)``: open ones ``-``, first looks ``*``, of another protocol ``†``."""
    return "\n\n".join(_table_markdown(one) for one in filled)


def _table_markdown(filled: Filled) -> str:
    titles = [*filled.table.columns.values(), "Average"]
    lines = [f"**{filled.table.title}**, in brackets the paper's", ""]
    lines += ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for row, title in filled.table.rows.items():
        cells = [_cell_text(filled.cells[row][column]) for column in (*filled.table.columns, AVERAGE)]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    if any(cell.short for cells in filled.cells.values() for cell in cells.values()):
        lines += ["", "\\* of fewer episodes than published: a first look"]
    for row, title in filled.table.rows.items():
        if departures := next((cell.departures for cell in filled.cells[row].values() if cell.departures), ""):
            lines += ["", f"† {title}: not by the published protocol, but {departures}"]
    return "\n".join(lines)


def _cell_text(cell: Cell) -> str:
    measured = "-"
    if cell.measured is not None and cell.measured.percent is not None and cell.measured.interval is not None:
        low, high = cell.measured.interval
        marks = "*" * cell.short + "†" * bool(cell.departures)
        measured = f"{cell.measured.percent:.1f}{marks} [{low:.1f}, {high:.1f}]"
    return measured if cell.paper is None else f"{measured} ({cell.paper:.1f})"


def as_dict(filled: Sequence[Filled]) -> list[dict]:
    """For JSON."""
    return [
        {
            "table": one.table.name,
            "title": one.table.title,
            "rows": [
                {
                    "cell": row,
                    "columns": {
                        column: {
                            "percent": cell.measured.percent if cell.measured else None,
                            "interval_percent": cell.measured.interval if cell.measured else None,
                            "episodes": cell.measured.episodes if cell.measured else 0,
                            "errors": cell.measured.errors if cell.measured else 0,
                            "paper_percent": cell.paper,
                            "fewer_episodes_than_published": cell.short,
                            "other_protocol": cell.departures,
                        }
                        for column, cell in cells.items()
                    },
                }
                for row, cells in one.cells.items()
            ],
        }
        for one in filled
    ]
