"""Tables of text, for the terminal and for Markdown."""

Row = list[str]


def aligned(title: str, rows: list[Row]) -> str:
    """A table for the terminal; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([title, *(f"  {line.rstrip()}" for line in lines)])


def markdown(title: str, rows: list[Row]) -> str:
    """The same for the docs."""
    head, *body = rows
    written = [[cell.replace("|", "\\|") for cell in row] for row in (head, *body)]
    lines = [f"| {' | '.join(row)} |" for row in (written[0], ["---"] * len(head), *written[1:])]
    return "\n".join([f"**{title}**", "", *lines])


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a cell."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def number(value: float | None) -> str:
    """A number as a cell."""
    return "-" if value is None else f"{value:.2f}"
