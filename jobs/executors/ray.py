"""A pool of Ray actors, on the cluster that is there or on one started here.

Ray schedules and restarts; it plays no part in being correct. A task whose worker dies is tried ``attempts`` times on a fresh
worker and then given up by name, without its neighbours.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.build import WorkerDied

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        address: of a cluster; ``auto`` joins one that runs here or that RAY_ADDRESS names, and else starts one on this machine;
            ``local`` always starts one.
        workers: actors; None for one to each CPU of the cluster.
        attempts: times that a task is tried when its worker dies.
    """

    address: str = "auto"
    workers: int | None = None
    attempts: int = 3

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be 1 or more, found {self.workers}")
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, found {self.attempts}")


def build(config: Config) -> "RayExecutor":
    """The executor; Ray starts at the first run."""
    return RayExecutor(config)


class RayExecutor:
    """See ``pipeline.build.Executor``."""

    def __init__(self, config: Config):
        self.config = config

    def run(
        self, make_worker: Callable[[], Callable[[T], R]], tasks: Sequence[T]
    ) -> Iterator[tuple[T, R | WorkerDied]]:
        """See ``pipeline.build.Executor.run``. At most one task is under way on each actor."""
        import ray

        self._start()
        count = min(self.config.workers or int(ray.cluster_resources().get("CPU", 1)), len(tasks))
        actor = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=self.config.attempts - 1)(_Actor)
        actors = [actor.remote(make_worker) for _ in range(count)]
        waiting = list(enumerate(tasks))[::-1]
        running: dict[Any, tuple[Any, int]] = {}
        try:
            for free in actors:
                number, task = waiting.pop()
                running[free.work.remote(task)] = (free, number)
            while running:
                (done,), _ = ray.wait(list(running), num_returns=1)
                free, number = running.pop(done)
                result = self._result(done)
                if waiting:
                    following, task = waiting.pop()
                    running[free.work.remote(task)] = (free, following)
                yield tasks[number], result
        finally:
            for each in actors:
                ray.kill(each)  # pyright: ignore[reportArgumentType]

    def _result(self, done: Any) -> Any:
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        try:
            return ray.get(done)
        except RayActorError as error:
            first_line = str(error).strip().splitlines()[0]
            return WorkerDied(f"its worker died {self.config.attempts} times ({first_line})")
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None

    def _start(self) -> None:
        import ray

        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.config.address != "auto":
            ray.init(address=self.config.address, **options)
            return
        try:
            ray.init(address="auto", **options)
        except ConnectionError:
            ray.init(address="local", include_dashboard=False, **options)


class _Actor:
    """Holds one worker, made at the first task so that an error in making it is raised where tasks' errors are."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]):
        self.make_worker = make_worker
        self.worker: Callable[[Any], Any] | None = None

    def work(self, task: Any) -> Any:
        if self.worker is None:
            self.worker = self.make_worker()
        return self.worker(task)
