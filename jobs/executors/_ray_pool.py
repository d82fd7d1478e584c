"""A pool of Ray actors, each with one task at a time, or with a few."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BuildError

TICK_S = 0.5
"""Seconds to wait for Ray before the cluster and requests to end are checked again."""
PATIENCE_S = 60.0
"""Seconds without any worker after which a message says what is waited for."""
NOT_YET = object()


@dataclass(frozen=True)
class Turn:
    """An actor whose worker has just been made (without an outcome), has finished a task, or has died, with all that it
    had.

    Attributes:
        outcomes: number and result, or ``Death``, of each task.
        died: whether it is gone.
    """

    actor: Any
    outcomes: list[tuple[int, Any]]
    died: "Death | None" = None


@dataclass(frozen=True)
class Death:
    """A worker died.

    Attributes:
        node_lost: its whole node is gone, so that its task cannot be blamed for the death.
    """

    message: str
    node_lost: bool


class Pool:
    """Actors, and the task of each.

    Deaths are counted by the caller and not by Ray's own retries. Ray would also count a death against a task that was
    sent to an actor which is still restarting after another task killed it.

    Args:
        make_actor: starts an actor.
        check: called at least twice a second while waiting; may raise.
        waiting: called once if no actor is up after ``PATIENCE_S``.
    """

    def __init__(self, make_actor: Callable[[], Any], check: Callable[[], None], waiting: Callable[[], Any]):
        self.make_actor, self.check, self.waiting = make_actor, check, waiting
        self.running: dict[Any, tuple[Any, int | None]] = {}
        self.starting: set[Any] = set()
        self.patient_until: float | None = time.monotonic() + PATIENCE_S

    @property
    def size(self) -> int:
        """Number of actors, those that are still starting included."""
        return len({id(actor) for actor, _ in self.running.values()})

    def tasks_of(self, actor: Any) -> set[int]:
        """The numbers of the tasks that an actor has."""
        return {number for other, number in self.running.values() if other is actor and number is not None}

    def start(self) -> None:
        """Start an actor, and make its worker when it is up. It gets its first task after that, so that no task waits
        for an actor that the cluster has no room for, or is blamed for a worker that cannot be made.
        """
        actor = self.make_actor()
        up = actor.ready.remote()
        self.starting.add(up)
        self.running[up] = (actor, None)

    def give(self, actor: Any, task: Any, number: int) -> None:
        """Send a task to an actor that is up."""
        self.running[actor.work.remote(task)] = (actor, number)

    def next(self) -> Turn:
        """Wait for the next actor whose worker has been made, that has finished a task or died."""
        while True:
            ready = self._next_ready()
            actor, result = self.running[ready][0], self._fetched(ready)
            up = ready in self.starting
            self.starting.discard(ready)
            if isinstance(result, Death) or not up:
                break
            del self.running[ready]
            self.running[actor.make.remote()] = (actor, None)
        results, death = {ready: result}, result if isinstance(result, Death) else None
        if death is not None:
            self.check()  # a lost cluster must not count as this worker's own death
            also = [one for one, (other, _) in self.running.items() if other is actor and one is not ready]
            results |= {one: self._fetched(one) for one in also}
        numbered = [(self.running.pop(one)[1], result) for one, result in results.items()]
        if death is not None:
            self.end(actor)
        return Turn(actor, [(number, result) for number, result in numbered if number is not None], death)

    def _next_ready(self) -> Any:
        import ray

        done: list[Any] = []
        while not done:
            self.check()
            done, _ = ray.wait(list(self.running), num_returns=1, timeout=TICK_S)
            if not done and self.patient_until is not None and time.monotonic() > self.patient_until:
                self.patient_until = None
                self.waiting()
        self.patient_until = None
        return done[0]

    def _fetched(self, done: Any) -> Any:
        while (result := _result(done)) is NOT_YET:
            self.check()
        return result

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
    """The result of a finished task, or ``NOT_YET`` if it is still being fetched.

    Raises:
        BuildError: a worker lacks a module.
    """
    import ray
    import ray.exceptions

    try:
        return ray.get(done, timeout=TICK_S)
    except ray.exceptions.GetTimeoutError:
        return NOT_YET  # the result exists, but is so large that it is fetched from the object store
    except (ray.exceptions.ObjectLostError, ray.exceptions.ActorUnavailableError) as error:
        # The node that held a large result ended before it was fetched, or the worker cannot be reached.
        return Death(_first_line(error), node_lost=True)
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
        if (missing := re.search(r"No module named '([\w.]+)'", str(error))) is not None:
            raise BuildError(_not_installed(missing[1])) from error
        return Death(_first_line(error), node_lost="its node has died" in str(error))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ModuleNotFoundError) and _is_here(error.cause.name or ""):
            raise BuildError(_not_installed(str(error.cause.name))) from error
        if not isinstance(error.cause, Exception):
            raise
        # Raise the worker's own exception, as the local executor does; Ray's copy of it loses an OSError's fields.
        error.cause.add_note(str(error))
        raise error.cause from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _is_here(module: str) -> bool:
    import importlib.util

    try:
        return bool(module) and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _not_installed(module: str) -> str:
    return (
        f"a worker on the Ray cluster has no Python module {module}, which is there on this machine: install the same "
        "packages on every node, or --executor-options ship_code=yes sends LaMP's own code, and a runtime environment "
        "brings the rest (docs/cluster.md)"
    )


class Actor:
    """Holds one worker. It is not made with the actor, so that an error in making it is raised like a task's error."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]):
        import ray

        if not ray.get_gpu_ids():
            # Ray leaves the variable as it is for an actor without GPUs. Every such worker would take the first GPU.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.make_worker = make_worker
        self.worker: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Return once this process is up."""

    def make(self) -> None:
        """Make the worker: its modules are imported and its weights are loaded."""
        self.worker = self.make_worker()

    def work(self, task: Any) -> Any:
        """The worker's result."""
        assert self.worker is not None, "it is made before the first task"
        return self.worker(task)
