"""``lamp-policy table``: the paper's tables from a folder of results."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from jobs.cli.exit_codes import UsageError


@dataclass(frozen=True)
class Table:
    """Fill the paper's tables and ablations from the evaluations in a folder. Cells without a run stay open."""

    folder: tyro.conf.Positional[Path] = Path("evaluations")
    """Folder with folders of results of lamp-policy evaluate; each stands for the row that its --cell named."""
    commands: bool = False
    """Also print what to run for the rows that are open: data, stage 1, stage 2, evaluation."""
    json: bool = False
    """Print JSON."""


def table_command(args: Table) -> int:
    """Print the tables."""
    from jobs.cli.paper_cells import commands_of
    from lamp_model.closed_loop.results import BadResults
    from lamp_model.closed_loop.tables import as_dict, as_markdown, fill

    try:
        filled = fill(args.folder)
    except BadResults as error:
        raise UsageError(str(error)) from error
    print(json.dumps(as_dict(filled), indent=1) if args.json else as_markdown(filled))
    if args.commands and not args.json:
        for one in filled:
            for row, cells in one.cells.items():
                if any(cell.measured is None for cell in cells.values()):
                    print(f"\n# {one.table.title}: {one.table.rows[row]}")
                    print("\n".join(commands_of(one.table.name, row)))
    return 0
