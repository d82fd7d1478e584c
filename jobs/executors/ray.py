"""A pool of Ray actors, on an existing cluster or on one started here.

Ray schedules tasks and restarts workers; the results do not depend on it. A task whose worker dies is tried
``attempts`` times, each on a fresh worker. Then only this task is given up, and reported by name. Ray assigns GPUs: a
worker sees only its own, so that ``cuda`` is not the same GPU for all of them.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from jobs.executors._at_once import check_at_once, tasks_at_once
from jobs.executors._held_signals import HeldSignals, held_signals
from jobs.executors._ray_cluster import Cluster, ClusterLost
from jobs.executors._ray_connect import WITHOUT, cluster_at_hand, connect, say
from jobs.executors._ray_placement import Capacity, Placement, check_share, place, running_nodes
from jobs.executors._ray_pool import Actor, Death, Pool
from pipeline.build.executor import WorkerDied, unnoticed
from pipeline.errors import BuildError

T = TypeVar("T")
R = TypeVar("R")
NODE_LOSSES = 10
"""Times that a task may lose its node before it is given up; a node's end is rarely a task's fault."""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        address: of a cluster; ``auto`` joins the one that RAY_ADDRESS names or ``ray start`` started here, and else
            starts one on this machine; ``local`` always starts one.
        workers: actors; None for one to each CPU of the cluster, or where models run as many as its GPUs hold.
        ship_code: send this installation's own code to the workers, for nodes on which LaMP is not installed or is of
            another version; the packages that it needs must be there. Only where a cluster is joined.
        gpus_per_worker: GPUs of each worker that runs models, such as 0.5; None for one where the cluster has GPUs.
        attempts: times that a task is tried when its worker dies.
        wait: seconds that a cluster which is named may take to answer.
        at_once: see ``jobs.executors._at_once``.
    """

    address: str = "auto"
    workers: int | None = None
    attempts: int = 3
    wait: float = 20.0
    gpus_per_worker: float | None = None
    ship_code: bool = False
    at_once: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be 1 or more, found {self.workers}")
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, found {self.attempts}")
        check_at_once(self.at_once)
        if not 0 <= self.wait <= 600:
            raise ValueError(f"wait must be between 0 and 600 seconds, found {self.wait}")
        if self.gpus_per_worker is not None:
            check_share(self.gpus_per_worker)


def build(config: Config) -> "RayExecutor":
    """The executor; Ray starts at the first run."""
    return RayExecutor(config)


class RayExecutor:
    """See ``pipeline.build.executor.Executor``."""

    def __init__(self, config: Config):
        self.config = config
        self.restarted = False

    def run(
        self,
        make_worker: Callable[[], Callable[[T], R]],
        tasks: Sequence[T],
        *,
        device: str | None = None,
        thread_safe: bool = False,
        begun: Callable[[T], None] = unnoticed,
    ) -> Generator[tuple[T, R | WorkerDied], None, None]:
        """See ``pipeline.build.executor.Executor.run``. An actor runs one task at a time, or a few in threads.

        Requests to end (``_held_signals``) are handled between tasks; a cluster that was started here is then stopped.
        If such a cluster is lost, it is started again once, and no finished task is lost.

        Raises:
            BuildError: no cluster answers, it is lost, it cannot start a worker, or it lacks the device.
        """
        queue = _Queue(tasks, self.config.attempts, begun)
        with held_signals() as held:
            while not queue.done():
                workers = self.config.workers and min(self.config.workers, len(tasks))
                cluster = self._connect(workers, held)
                try:
                    pool = partial(self._pool, make_worker, device, thread_safe)
                    yield from _work(cluster, held, pool, queue)
                except ClusterLost as loss:
                    cluster.leave()
                    self._recover(cluster, loss)
                except (KeyboardInterrupt, SystemExit):
                    if cluster.ours:
                        cluster.leave()
                    raise

    def capacity(self, tasks: int, device: str | None) -> Capacity | None:
        """What the cluster that would be joined offers for a number of tasks; None where one would be started here.

        Raises:
            BuildError: no cluster answers, or it lacks the device.
        """
        if not cluster_at_hand(self.config.address):
            return None
        with held_signals() as held:
            cluster = self._connect(self.config.workers, held)
            nodes, placement = running_nodes(), self._place(tasks, device)
        cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
        return Capacity(f"the Ray cluster at {cluster.where}", len(nodes), cpus, gpus, placement.workers)

    def _connect(self, workers: int | None, held: HeldSignals) -> Cluster:
        return connect(self.config.address, workers, self.config.wait, held, self.config.ship_code)

    def _place(self, tasks: int, device: str | None) -> Placement:
        return place(running_nodes(), tasks, self.config.workers, self.config.gpus_per_worker, device)

    def _pool(
        self,
        make_worker: Callable[[], Callable],
        device: str | None,
        thread_safe: bool,
        tasks: int,
        check: Callable[[], None],
    ) -> tuple[Pool, int]:
        """Starts the workers for a number of tasks; returns how many tasks each may have at once, too."""
        import ray

        placement = self._place(tasks, device)
        wants = f"{placement.cpus:g} CPU{f' and {placement.gpus:g} GPU' if placement.gpus else ''}"
        overlaps = thread_safe and device is not None
        at_once = tasks_at_once(self.config.at_once, placement.gpus > 0) if overlaps else 1
        actor = ray.remote(num_cpus=placement.cpus, num_gpus=placement.gpus)(Actor).options(max_concurrency=at_once)
        pool = Pool(
            lambda: actor.remote(make_worker),
            check,
            lambda: say(f"waiting for the Ray cluster to have room for a worker, which wants {wants}"),
        )
        for _ in range(placement.workers):
            pool.start()
        return pool, at_once

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

    def __init__(self, tasks: Sequence[Any], attempts: int, begun: Callable[[Any], None]):
        self.tasks, self.attempts, self.begun = tasks, attempts, begun
        self.waiting = list(range(len(tasks)))[::-1]
        self.under_way: set[int] = set()
        self.deaths: Counter[int | None] = Counter()
        self.node_losses: Counter[int | None] = Counter()
        self.suspects: set[int] = set()

    def done(self) -> bool:
        """Whether every task has a result."""
        return not self.waiting and not self.under_way

    def take(self, beside: set[int]) -> int | None:
        """The next task's number for a worker that has some already; None if there is none that may run beside them.

        A task with which a worker died that had several is tried alone from then on.
        """
        if beside & self.suspects:
            return None
        fit = (at for at in reversed(range(len(self.waiting))) if not beside or self.waiting[at] not in self.suspects)
        if (at := next(fit, None)) is None:
            return None
        number = self.waiting.pop(at)
        self.under_way.add(number)
        self.begun(self.tasks[number])
        return number

    def put_back(self) -> None:
        """Queue the running tasks again: their workers are lost."""
        self.waiting += sorted(self.under_way, reverse=True)
        self.under_way.clear()

    def worker_made(self) -> None:
        """A worker was made, so workers can be: forget those that died while they were made."""
        del self.deaths[None], self.node_losses[None]

    def died(self, number: int | None, death: Death, beside: bool = False) -> WorkerDied | None:
        """Count a worker's death during a task (None: while it started or was made).

        Args:
            beside: it had other tasks too, so that this one is only suspected: it is not given up for this.

        Returns:
            The reason for giving the task up; None if it is tried again.

        Raises:
            BuildError: one worker after the other dies while it starts or is made.
        """
        counts, most = (self.node_losses, NODE_LOSSES) if death.node_lost else (self.deaths, self.attempts)
        counts[number] += 1
        if beside and number is not None and not death.node_lost:
            self.suspects.add(number)
            counts[number] = min(counts[number], most - 1)
        if counts[number] < most:
            if number is not None:
                self.under_way.remove(number)
                self.waiting.append(number)
            return None
        if number is None:
            raise BuildError(f"Ray could not start a worker: {death.message}")
        return WorkerDied(f"its worker died {counts[number]} times ({death.message})")


def _work(
    cluster: Cluster,
    held: HeldSignals,
    make_pool: Callable[[int, Callable[[], None]], tuple[Pool, int]],
    queue: _Queue,
) -> Iterator[tuple[Any, Any]]:
    """Each task with its result, from a pool of actors on a cluster.

    Raises:
        ClusterLost: the cluster is lost; the running tasks are queued again.
    """

    def check() -> None:
        held.check()
        cluster.check()

    check()
    pool, at_once = make_pool(len(queue.waiting), check)
    try:
        while not queue.done():
            turn = pool.next()
            if turn.died is None and not turn.outcomes:
                queue.worker_made()
            deaths = [number for number, result in turn.outcomes if isinstance(result, Death)]
            if turn.died is not None and not deaths:
                queue.died(None, turn.died)
            finished = []
            for number, result in turn.outcomes:
                if isinstance(result, Death):
                    result = queue.died(number, result, beside=len(deaths) > 1)
                if number in queue.under_way:  # else it waits for its next try
                    finished.append((number, result))
                    queue.under_way.remove(number)
            if turn.died is not None:
                if queue.waiting:
                    pool.start()
            else:
                _give(pool, turn.actor, queue, at_once)
            yield from ((queue.tasks[number], result) for number, result in finished)
    except ClusterLost:
        queue.put_back()
        pool.running.clear()
        raise
    finally:
        pool.stop()


def _give(pool: Pool, actor: Any, queue: _Queue, at_once: int) -> None:
    """Give an actor tasks, but not more than its share of those left; one without a task is ended."""
    actors = pool.size + (not pool.tasks_of(actor))
    most = min(at_once, -(-(len(queue.waiting) + len(queue.under_way)) // actors))
    while len(beside := pool.tasks_of(actor)) < most:
        number = queue.take(beside)
        if number is None:
            break
        pool.give(actor, queue.tasks[number], number)
    if not pool.tasks_of(actor):
        pool.end(actor)
