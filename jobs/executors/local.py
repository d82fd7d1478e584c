"""Runs all tasks in this process, one after the other."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.build.executor import unnoticed
from pipeline.errors import BuildError
from schemas.devices import choose_device

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Config:
    """No options."""


def build(config: Config) -> "LocalExecutor":
    """The executor."""
    return LocalExecutor()


class LocalExecutor:
    """See ``pipeline.build.executor.Executor``. Models run on one GPU: the first, unless ``device`` names another."""

    def run(
        self,
        make_worker: Callable[[], Callable[[T], R]],
        tasks: Sequence[T],
        *,
        device: str | None = None,
        begun: Callable[[T], None] = unnoticed,
    ) -> Generator[tuple[T, R], None, None]:
        """See ``pipeline.build.executor.Executor.run``."""
        if device is not None:
            try:
                choose_device(device)
            except ValueError as error:
                raise BuildError(str(error)) from error
        worker = make_worker()
        for task in tasks:
            begun(task)
            yield task, worker(task)
