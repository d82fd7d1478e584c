"""A pool of Ray actors, on the cluster that is there or on one started here.

Ray schedules and restarts; it plays no part in being correct. A task whose worker dies is tried ``attempts`` times on a
fresh worker and then given up by name, without its neighbours.
"""

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.build.executor import BuildError, WorkerDied

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        address: of a cluster; ``auto`` joins the one that RAY_ADDRESS names or ``ray start`` started here, and else
            starts one on this machine; ``local`` always starts one.
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
    """See ``pipeline.build.executor.Executor``."""

    def __init__(self, config: Config):
        self.config = config

    def run(
        self, make_worker: Callable[[], Callable[[T], R]], tasks: Sequence[T]
    ) -> Iterator[tuple[T, R | WorkerDied]]:
        """See ``pipeline.build.executor.Executor.run``. At most one task is under way on each actor.

        Raises:
            BuildError: no cluster answers, or it cannot start a worker.
        """
        import ray

        if not tasks:
            return
        self._start()
        cpus = ray.cluster_resources().get("CPU", 1.0)
        count = min(self.config.workers or max(int(cpus), 1), len(tasks))
        # More workers than CPUs share them; asking for a whole one each, some would wait for ever.
        share = min(1.0, math.floor(cpus / count * 1000) / 1000)
        pool = _Pool(lambda: ray.remote(num_cpus=share)(_Actor).remote(make_worker))
        waiting, deaths = list(range(len(tasks)))[::-1], Counter()
        try:
            for _ in range(count):
                pool.start()
            while waiting or pool.busy():
                actor, number, result = pool.next()
                if isinstance(result, WorkerDied):
                    deaths[number] += 1
                    given_up = deaths[number] >= self.config.attempts
                    if given_up and number is None:
                        raise BuildError(f"Ray could not start a worker: {result.message}")
                    if not given_up and number is not None:
                        waiting.append(number)
                    if waiting:
                        pool.start()
                    if not given_up:
                        continue
                    result = WorkerDied(f"its worker died {deaths[number]} times ({result.message})")
                elif waiting:
                    following = waiting.pop()
                    pool.give(actor, tasks[following], following)
                else:
                    pool.end(actor)
                if number is not None:
                    yield tasks[number], result
        finally:
            pool.stop()

    def _start(self) -> None:
        import ray

        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
        address = None if self.config.address == "auto" else self.config.address
        try:
            # None joins what RAY_ADDRESS or `ray start` names. Ray's own "auto" would also join, and die with, whatever
            # another program on this machine has started for itself.
            ray.init(address=address, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            if address is None and not os.environ.get("RAY_ADDRESS"):
                ray.init(address="local", **options)  # what `ray start` left behind is there no more
                return
            where = address or f"{os.environ['RAY_ADDRESS']} (RAY_ADDRESS)"
            raise BuildError(
                f"no Ray cluster answers at {where}: {' '.join(str(error).split())}; --executor-options address=local "
                "starts one here, and --executor local does without"
            ) from error


class _Pool:
    """Actors, and what each is doing.

    Deaths are counted here and not by Ray's own retries: those charge a task that was sent to an actor which is still
    restarting after another task killed it.
    """

    def __init__(self, make_actor: Callable[[], Any]):
        self.make_actor = make_actor
        self.running: dict[Any, tuple[Any, int | None]] = {}

    def start(self) -> None:
        """Start an actor; it asks for its first task when it is up, so that none lies with one there is no room for."""
        actor = self.make_actor()
        self.running[actor.ready.remote()] = (actor, None)

    def give(self, actor: Any, task: Any, number: int) -> None:
        """Send a task to an actor that is free."""
        self.running[actor.work.remote(task)] = (actor, number)

    def busy(self) -> bool:
        """Whether any task is under way."""
        return any(number is not None for _, number in self.running.values())

    def next(self) -> tuple[Any, int | None, Any]:
        """An actor that became free or died, the number of its task (None when it has just started), and the result."""
        import ray

        (done,), _ = ray.wait(list(self.running), num_returns=1)
        actor, number = self.running[done]
        result = _result(done)
        del self.running[done]
        if isinstance(result, WorkerDied):
            self.end(actor)
        return actor, number, result

    def end(self, actor: Any) -> None:
        """End an actor now; one that Ray only learns to be forgotten may keep its CPU from the next for a minute."""
        import ray

        ray.kill(actor)

    def stop(self) -> None:
        """End all actors that are doing something."""
        for actor, _ in self.running.values():
            self.end(actor)
        self.running.clear()


def _result(done: Any) -> Any:
    import ray
    import ray.exceptions

    try:
        return ray.get(done)
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        return WorkerDied(str(error).strip().splitlines()[0])
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, Exception):
            raise
        # The worker's own exception, as the local executor raises it; Ray's copy of it loses an OSError's fields.
        error.cause.add_note(str(error))
        raise error.cause from None


class _Actor:
    """Holds one worker, made at the first task so that an error in making it is raised where tasks' errors are."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]):
        self.make_worker = make_worker
        self.worker: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Answered once this process is up."""

    def work(self, task: Any) -> Any:
        if self.worker is None:
            self.worker = self.make_worker()
        return self.worker(task)
