"""The two plain layouts that the terminal and the page share: named rows, and tables."""

from dataclasses import dataclass

Rows = list[tuple[str, str]]
"""(name, text) of each row."""


@dataclass(frozen=True)
class Table:
    """A title, the names of its columns (the first column holds the row names) and rows of text."""

    title: str
    columns: list[str]
    rows: list[list[str]]
