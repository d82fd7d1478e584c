"""Markup of the page. Every text that comes from data is escaped here, so that it cannot act as markup."""

import base64
import hashlib
import json
from html import escape
from typing import Any

from pipeline.inspection.table import Rows, Table
from pipeline.inspection.terminal import printable


def text(value: Any, lines: bool = False) -> str:
    """The value as printable, escaped text, in one line unless ``lines``."""
    shown = printable(str(value))
    return escape(shown if lines else shown.replace("\n", " "), quote=True)


def json_text(value: Any) -> str:
    """JSON that cannot close the HTML element around it."""
    shown = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return shown.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def content_hash(content: str) -> str:
    """The hash by which a content security policy admits a script or a style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def rows_list(rows: Rows) -> str:
    """A list of names with their texts."""
    return "<dl>" + "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in rows) + "</dl>"


def words_table(rows: Rows) -> str:
    """A table of counts and texts."""
    cells = "".join(f"<tr><td>{text(k)}</td><td class='words'>{text(v)}</td></tr>" for k, v in rows)
    return f"<table class='texts'>{cells}</table>"


def numbers_table(table: Table) -> str:
    """A table of numbers; its first column names the rows."""
    head = "".join(f"<th>{text(c)}</th>" for c in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{text(c)}</td>" for c in row) + "</tr>" for row in table.rows)
    return f"<table class='numbers'><caption>{text(table.title)}</caption><tr>{head}</tr>{rows}</table>"


def image(data: bytes, name: str, alt: str) -> str:
    """An image element with the encoded picture embedded."""
    return f"<img class='{name}' alt='{text(alt)}' src='{data_address(data)}'>"


def data_address(data: bytes) -> str:
    """The data URL of an encoded picture."""
    kind = "png" if data[:1] == b"\x89" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
