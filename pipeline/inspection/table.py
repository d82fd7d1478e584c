"""The two plain forms in which the terminal and the page both show words: named rows, and tables."""

from dataclasses import dataclass

Rows = list[tuple[str, str]]
"""(name, words) of each row."""


@dataclass(frozen=True)
class Table:
    """A title, the names of its columns (the first column is that of the row names) and rows of words."""

    title: str
    columns: list[str]
    rows: list[list[str]]
