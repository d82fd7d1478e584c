"""Texts beside files: ``clip.txt`` beside ``clip.mp4``, or one table ``texts.csv``, ``texts.jsonl`` or
``texts.json`` for a folder.

A table names each file relative to its own folder and gives it one text or several: CSV with a header ``file,text``;
JSON lines ``{"file": ..., "text": ...}``; JSON ``{"clip.mp4": "text"}`` or ``{"clip.mp4": ["text", "text"]}``.
"""

import csv
import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.formats.fingerprint import stamps_of
from schemas.locations import locate

TABLES = ("texts.csv", "texts.jsonl", "texts.json")
LARGEST_TEXT, LARGEST_TABLE = 1 << 16, 1 << 28


class BadTexts(ValueError):
    """A file of texts cannot be used; the message names it."""


def texts_beside(path: Path, root: Path) -> tuple[str, ...]:
    """The texts of a file: the lines of its own ``.txt``, and its entries in the tables of its folder and of the
    folders above, up to root.

    Raises:
        BadTexts: a file of texts cannot be read.
    """
    found: list[str] = []
    own = path.with_suffix(".txt")
    if own.is_file():
        found += _read(own, LARGEST_TEXT).splitlines()
    for folder in path.parents:
        for table in (folder / name for name in TABLES):
            if table.is_file():
                found += _table(str(table), stamps_of([table])).get(path.relative_to(folder).as_posix(), ())
        if folder == root:
            break
    return tuple(found)


def _read(path: Path, largest: int) -> str:
    if path.stat().st_size > largest:
        raise BadTexts(f"{path.name} has {path.stat().st_size} bytes; texts have at most {largest}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadTexts(f"{path.name} is not UTF-8 text") from error
    except OSError as error:
        raise BadTexts(f"{path.name} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=16)
def _table(path: str, stamp: str) -> dict[str, tuple[str, ...]]:
    """A table's texts by file, read once per process and again after a change."""
    file = locate(path)
    text = _read(file, LARGEST_TABLE)
    try:
        rows = {".csv": _csv_rows, ".jsonl": _line_rows, ".json": _json_rows}[file.suffix](text)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error, RecursionError) as error:
        raise BadTexts(f"{file.name} is no table of files and texts: {' '.join(str(error).split())}") from error
    found: dict[str, list[str]] = {}
    for name, said in rows:
        found.setdefault(str(name), []).extend([said] if isinstance(said, str) else [str(part) for part in said])
    return {name: tuple(texts) for name, texts in found.items()}


def _csv_rows(text: str) -> list[tuple[str, Any]]:
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if not {"file", "text"} <= set(table.fieldnames or ()):
        raise ValueError(f"its first line must name the columns file and text, found {table.fieldnames}")
    return [(row["file"], row["text"] or "") for row in table]


def _line_rows(text: str) -> list[tuple[str, Any]]:
    return [(line["file"], line["text"]) for line in map(json.loads, filter(str.strip, text.splitlines()))]


def _json_rows(text: str) -> list[tuple[str, Any]]:
    return list(json.loads(text).items())
