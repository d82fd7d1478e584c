"""Work that waits for a store, by several threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from schemas.locations import StorePath

T = TypeVar("T")
R = TypeVar("R")
REQUESTS = 16
"""Requests to a store that are under way at once."""


def in_parallel(function: Callable[[T], R], items: Iterable[T], where: Path) -> Iterator[R]:
    """``map``; by several threads where it is a store that is waited for.

    Args:
        where: the place that the function asks.
    """
    if not isinstance(where, StorePath):
        yield from map(function, items)
        return
    with ThreadPoolExecutor(REQUESTS) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * REQUESTS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
