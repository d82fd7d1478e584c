"""Runs all tasks in this process, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Config:
    """No options."""


def build(config: Config) -> "LocalExecutor":
    """The executor."""
    return LocalExecutor()


class LocalExecutor:
    """See ``pipeline.build.executor.Executor``."""

    def run(self, make_worker: Callable[[], Callable[[T], R]], tasks: Sequence[T]) -> Iterator[tuple[T, R]]:
        """See ``pipeline.build.executor.Executor.run``."""
        worker = make_worker()
        for task in tasks:
            yield task, worker(task)
