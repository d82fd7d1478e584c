"""Interfaces that a build needs to run its tasks and to show progress."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class WorkerDied:
    """A task whose worker process died each time it was tried."""

    message: str


def unnoticed(task: Any) -> None:
    """For ``Executor.run``, where nobody needs to know which tasks have begun."""


@runtime_checkable
class Executor(Protocol):
    """Runs independent tasks, in this process or in others."""

    def run(
        self,
        make_worker: Callable[[], Callable[[T], R]],
        tasks: Sequence[T],
        *,
        device: str | None = None,
        thread_safe: bool = False,
        begun: Callable[[T], None] = unnoticed,
    ) -> Generator[tuple[T, R | WorkerDied], None, None]:
        """Each task with its result, in the order in which they finish. An exception in a worker is raised here.

        Closing the generator ends the workers.

        Args:
            device: on which the workers run models (``auto``, ``cpu``, ``cuda``, ``cuda:N``); None if they run none and
                need no GPU.
            thread_safe: a worker may be called by several threads at once. One with a GPU is then given some tasks at
                once, so that it reads and writes for some while the model runs for another.
            begun: called with each task when it is given to a worker, again if it is tried again.

        Raises:
            BuildError: there is no such device.
        """
        ...


Progress = Callable[[str, int, Iterable[Any]], Iterable[Any]]
"""(title, total, items) -> the same items, with progress shown while they are iterated."""
