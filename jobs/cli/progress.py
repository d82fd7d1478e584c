"""Progress of work that yields its results one by one."""

from collections.abc import Iterable, Iterator
from typing import Any

from schemas.progress import open_progress


def progress_bar(title: str, total: int, items: Iterable[Any]) -> Iterable[Any]:
    """The same items; progress is shown on standard error as they pass (``schemas.progress``)."""
    return items if total == 0 else _shown(title, total, items)


def _shown(title: str, total: int, items: Iterable[Any]) -> Iterator[Any]:
    progress = open_progress(title, total, title.removesuffix("s"))
    try:
        for item in items:
            yield item
            progress.update()
    finally:
        progress.close()
