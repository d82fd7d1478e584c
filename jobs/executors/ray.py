"""A pool of Ray actors, on the cluster that is there or on one started here.

Ray schedules and restarts; it plays no part in being correct. A task whose worker dies is tried ``attempts`` times on a
fresh worker and then given up by name, without its neighbours.
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
"""How long Ray is waited for before a look at the cluster and at requests to end."""
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
        """See ``pipeline.build.executor.Executor.run``. At most one task is under way on each actor.

        Requests to end (``_held_signals``) are acted upon between tasks; a cluster that was started here is stopped
        then. One that is lost is started again once, and loses no finished task.

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
        """What was under way waits again: who worked on it is lost."""
        self.waiting += sorted(self.under_way, reverse=True)
        self.under_way.clear()

    def died(self, number: int | None, died: WorkerDied) -> WorkerDied | None:
        """Count a worker's death with a task (None: while it started); what is said when the task is given up.

        Raises:
            BuildError: workers die before they have begun.
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
        ClusterLost: what was under way waits again.
    """
    import ray

    def check() -> None:
        held.check()
        cluster.check()

    check()
    cpus = ray.cluster_resources().get("CPU", 1.0)
    count = min(workers or max(int(cpus), 1), len(queue.waiting))
    # More workers than CPUs share them; asking for a whole one each, some would wait for ever.
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
    """Actors, and what each is doing.

    Deaths are counted here and not by Ray's own retries: those charge a task that was sent to an actor which is still
    restarting after another task killed it.
    """

    def __init__(self, make_actor: Callable[[], Any], check: Callable[[], None]):
        self.make_actor, self.check = make_actor, check
        self.running: dict[Any, tuple[Any, int | None]] = {}

    def start(self) -> None:
        """Start an actor; it asks for its first task when it is up, so that none lies with one there is no room for."""
        actor = self.make_actor()
        self.running[actor.ready.remote()] = (actor, None)

    def give(self, actor: Any, task: Any, number: int) -> None:
        """Send a task to an actor that is free."""
        self.running[actor.work.remote(task)] = (actor, number)

    def next(self) -> tuple[Any, int | None, Any]:
        """An actor that became free or died, the number of its task (None when it has just started), and the result.

        Looks around (``check``) at least twice a second.
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
            self.check()  # a worker that went with its cluster died of nothing of its own
        del self.running[ready]
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
    """What a task that is done came to, or ``NOT_YET``."""
    import ray
    import ray.exceptions

    try:
        return ray.get(done, timeout=TICK_S)
    except ray.exceptions.GetTimeoutError:
        return NOT_YET  # it is there, and so large that it is fetched from the object store
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
