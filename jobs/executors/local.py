"""Runs all tasks in this process: one after the other, or where a GPU would wait for the CPU, some at once."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from jobs.executors._at_once import check_at_once, tasks_at_once
from pipeline.build.executor import unnoticed
from pipeline.errors import BuildError
from schemas.devices import choose_device

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        at_once: see ``jobs.executors._at_once``.
    """

    at_once: int | None = None

    def __post_init__(self) -> None:
        check_at_once(self.at_once)


def build(config: Config) -> "LocalExecutor":
    """The executor."""
    return LocalExecutor(config)


class LocalExecutor:
    """See ``pipeline.build.executor.Executor``. Models run on one GPU: the first, unless ``device`` names another."""

    def __init__(self, config: Config = Config()):
        self.config = config

    def run(
        self,
        make_worker: Callable[[], Callable[[T], R]],
        tasks: Sequence[T],
        *,
        device: str | None = None,
        thread_safe: bool = False,
        begun: Callable[[T], None] = unnoticed,
    ) -> Generator[tuple[T, R], None, None]:
        """See ``pipeline.build.executor.Executor.run``. Closing the generator waits for the tasks under way."""
        gpu = False
        if device is not None:
            try:
                gpu = choose_device(device).type == "cuda"
            except ValueError as error:
                raise BuildError(str(error)) from error
        worker = make_worker()
        at_once = tasks_at_once(self.config.at_once, gpu) if thread_safe and device is not None else 1
        if at_once > 1:
            yield from _in_threads(worker, tasks, at_once, begun)
            return
        for task in tasks:
            begun(task)
            yield task, worker(task)


def _in_threads(
    worker: Callable[[T], R], tasks: Sequence[T], at_once: int, begun: Callable[[T], None]
) -> Generator[tuple[T, R], None, None]:
    waiting, running = iter(tasks), dict[Future[R], T]()
    with ThreadPoolExecutor(at_once, "lamp-worker") as pool:
        while True:
            for task in islice(waiting, at_once - len(running)):
                begun(task)
                running[pool.submit(worker, task)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
