"""A progress bar with rate and remaining time."""

from collections.abc import Iterable
from typing import Any


def progress_bar(title: str, total: int, items: Iterable[Any]) -> Iterable[Any]:
    """The same items, shown on standard error as they pass; a plain line now and then where that is no terminal."""
    from tqdm import tqdm

    if total == 0:
        return items
    return tqdm(items, total=total, desc=title, unit=title.removesuffix("s"), mininterval=0.5, dynamic_ncols=True)
