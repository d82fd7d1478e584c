"""A pool of Ray actors, on an existing cluster or on one started here.

Ray schedules tasks and restarts workers; the results do not depend on it. A task whose worker dies is tried
``attempts`` times, each on a fresh worker. Then only this task is given up, and reported by name.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from jobs.executors._held_signals import HeldSignals, held_signals
from jobs.executors._ray_cluster import Cluster, ClusterLost
from jobs.executors._ray_connect import WITHOUT, connect, say
from pipeline.build.executor import WorkerDied
from pipeline.errors import BuildError

T = TypeVar("T")
R = TypeVar("R")
TICK_S = 0.5
"""Seconds to wait for Ray before the cluster and requests to end are checked again."""
NOT_YET = object()


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        address: of a cluster; ``auto`` joins the one that RAY_ADDRESS names or ``ray start`` started here, and else
            starts one on this machine; ``local`` always starts one.
        workers: actors; None for one to each CPU of the cluster.
        attempts: times that a task is tried when its worker dies.
        wait: seconds that a cluster which is named may take to answer.
    """

    address: str = "auto"
    workers: int | None = None
    attempts: int = 3
    wait: float = 20.0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be 1 or more, found {self.workers}")
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, found {self.attempts}")
        if not 0 <= self.wait <= 600:
            raise ValueError(f"wait must be between 0 and 600 seconds, found {self.wait}")


def build(config: Config) -> "RayExecutor":
    """The executor; Ray starts at the first run."""
    return RayExecutor(config)


class RayExecutor:
    """See ``pipeline.build.executor.Executor``."""

    def __init__(self, config: Config):
        self.config = config
        self.restarted = False

    def run(
        self, make_worker: Callable[[], Callable[[T], R]], tasks: Sequence[T]
    ) -> Iterator[tuple[T, R | WorkerDied]]:
        """See ``pipeline.build.executor.Executor.run``. Each actor runs at most one task at a time.

        Requests to end (``_held_signals``) are handled between tasks; a cluster that was started here is then stopped.
        If such a cluster is lost, it is started again once, and no finished task is lost.

        Raises:
            BuildError: no cluster answers, it is lost, or it cannot start a worker.
        """
        queue = _Queue(tasks, self.config.attempts)
        with held_signals() as held:
            while not queue.done():
                workers = self.config.workers and min(self.config.workers, len(tasks))
                cluster = connect(self.config.address, workers, self.config.wait, held)
                try:
                    yield from _work(cluster, held, self.config.workers, make_worker, queue)
                except ClusterLost as loss:
                    cluster.leave()
                    self._recover(cluster, loss)
                except (KeyboardInterrupt, SystemExit):
                    if cluster.ours:
                        cluster.leave()
                    raise

    def _recover(self, cluster: Cluster, loss: ClusterLost) -> None:
        stays = "what was finished stays, and the same command goes on from there"
        if not cluster.ours:
            raise BuildError(
                f"the Ray cluster at {cluster.where} is lost: {loss}; {stays} when the cluster is up again; "
                f"--executor-options address=local starts one here, and {WITHOUT}"
            ) from loss
        if self.restarted:
            raise BuildError(
                f"the local Ray cluster was lost again: {loss}, as happens when memory runs out; {stays}; "
                f"--executor-options workers=N with fewer workers needs less memory, and {WITHOUT}"
            ) from loss
        self.restarted = True
        say(f"the local Ray cluster was lost: {loss}, as happens when memory runs out; it starts again")


class _Queue:
    """Tasks that have no result yet."""

    def __init__(self, tasks: Sequence[Any], attempts: int):
        self.tasks, self.attempts = tasks, attempts
        self.waiting = list(range(len(tasks)))[::-1]
        self.under_way: set[int] = set()
        self.deaths: Counter[int | None] = Counter()

    def done(self) -> bool:
        """Whether every task has a result."""
        return not self.waiting and not self.under_way

    def take(self) -> int:
        """The next task's number."""
        number = self.waiting.pop()
        self.under_way.add(number)
        return number

    def put_back(self) -> None:
        """Queue the running tasks again: their workers are lost."""
        self.waiting += sorted(self.under_way, reverse=True)
        self.under_way.clear()

    def died(self, number: int | None, died: WorkerDied) -> WorkerDied | None:
        """Count a worker's death during a task (None: while it started).

        Returns:
            The reason for giving the task up; None if it is tried again.

        Raises:
            BuildError: workers die while they start.
        """
        self.deaths[number] += 1
        if self.deaths[number] < self.attempts:
            if number is not None:
                self.under_way.remove(number)
                self.waiting.append(number)
            return None
        if number is None:
            raise BuildError(f"Ray could not start a worker: {died.message}")
        return WorkerDied(f"its worker died {self.deaths[number]} times ({died.message})")


def _work(
    cluster: Cluster, held: HeldSignals, workers: int | None, make_worker: Callable[[], Any], queue: _Queue
) -> Iterator[tuple[Any, Any]]:
    """Each task with its result, from a pool of actors on a cluster.

    Raises:
        ClusterLost: the cluster is lost; the running tasks are queued again.
    """
    import ray

    def check() -> None:
        held.check()
        cluster.check()

    check()
    cpus = ray.cluster_resources().get("CPU", 1.0)
    count = min(workers or max(int(cpus), 1), len(queue.waiting))
    # More workers than CPUs share the CPUs. If each asked for a whole one, some would wait for ever.
    share = min(1.0, math.floor(cpus / count * 1000) / 1000)
    pool = _Pool(lambda: ray.remote(num_cpus=share)(_Actor).remote(make_worker), check)
    try:
        for _ in range(count):
            pool.start()
        while not queue.done():
            actor, number, result = pool.next()
            if isinstance(result, WorkerDied):
                result = queue.died(number, result)
                if queue.waiting:
                    pool.start()
                if result is None:
                    continue
            elif queue.waiting:
                following = queue.take()
                pool.give(actor, queue.tasks[following], following)
            else:
                pool.end(actor)
            if number is not None:
                queue.under_way.remove(number)
                yield queue.tasks[number], result
    except ClusterLost:
        queue.put_back()
        pool.running.clear()
        raise
    finally:
        pool.stop()


class _Pool:
    """Actors, and the task of each.

    Deaths are counted here and not by Ray's own retries. Ray would also count a death against a task that was sent to
    an actor which is still restarting after another task killed it.
    """

    def __init__(self, make_actor: Callable[[], Any], check: Callable[[], None]):
        self.make_actor, self.check = make_actor, check
        self.running: dict[Any, tuple[Any, int | None]] = {}

    def start(self) -> None:
        """Start an actor. It gets its first task only when it is up, so that no task waits for an actor that the
        cluster has no room for.
        """
        actor = self.make_actor()
        self.running[actor.ready.remote()] = (actor, None)

    def give(self, actor: Any, task: Any, number: int) -> None:
        """Send a task to an actor that is free."""
        self.running[actor.work.remote(task)] = (actor, number)

    def next(self) -> tuple[Any, int | None, Any]:
        """An actor that became free or died, the number of its task (None when it has just started), and the result.

        Calls ``check`` at least twice a second.
        """
        import ray

        done: list[Any] = []
        while not done:
            self.check()
            done, _ = ray.wait(list(self.running), num_returns=1, timeout=TICK_S)
        (ready,) = done
        actor, number = self.running[ready]
        while (result := _result(ready)) is NOT_YET:
            self.check()
        if isinstance(result, WorkerDied):
            self.check()  # a lost cluster must not count as this worker's own death
        del self.running[ready]
        if isinstance(result, WorkerDied):
            self.end(actor)
        return actor, number, result

    def end(self, actor: Any) -> None:
        """End an actor now. If its handle were only dropped, Ray might hold its CPU for another minute."""
        import ray

        ray.kill(actor)

    def stop(self) -> None:
        """End all running actors."""
        for actor, _ in self.running.values():
            self.end(actor)
        self.running.clear()


def _result(done: Any) -> Any:
    """The result of a finished task, or ``NOT_YET`` if it is still being fetched."""
    import ray
    import ray.exceptions

    try:
        return ray.get(done, timeout=TICK_S)
    except ray.exceptions.GetTimeoutError:
        return NOT_YET  # the result exists, but is so large that it is fetched from the object store
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        return WorkerDied(str(error).strip().splitlines()[0])
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, Exception):
            raise
        # Raise the worker's own exception, as the local executor does; Ray's copy of it loses an OSError's fields.
        error.cause.add_note(str(error))
        raise error.cause from None


class _Actor:
    """Holds one worker. It is made at the first task, so that an error in making it is raised like a task's error."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]):
        self.make_worker = make_worker
        self.worker: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Return once this process is up."""

    def work(self, task: Any) -> Any:
        if self.worker is None:
            self.worker = self.make_worker()
        return self.worker(task)
