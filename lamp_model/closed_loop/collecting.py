"""Collects demonstrations: attempts of scripted controllers over several simulators, until each task has enough."""

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lamp_model.closed_loop.child import Simulator, SimulatorFailed, SimulatorProcess
from lamp_model.closed_loop.demonstrations import AttemptResult, BadCollection, CollectionFolder, demos_in
from lamp_model.closed_loop.worker_threads import run_all

log = logging.getLogger(__name__)
PROGRAM = "lamp_model.closed_loop.simulation.demonstrator"
LOGS = ".simulators"
ATTEMPT_SECONDS = 1200.0
"""The longest that an attempt with its rendering may take."""
TRIES = 2


class CollectionFailed(RuntimeError):
    """The collection cannot go on; the message says why."""


@dataclass
class TaskProgress:
    """One task.

    Attributes:
        number: in its suite.
        wanted: successes.
        most: attempts that may be made.
        handed: numbers of the attempts that were made, in this run or before, or are under way.
        running: how many are under way.
        reasons: of failures, how often.
        seconds: of successes.
        finished: its file is there.
        name: as in the file's name; empty until a simulator has opened it.
        unscripted: why there is no controller for it; empty where there is one.
    """

    number: int
    wanted: int
    most: int
    handed: set[int] = field(default_factory=set)
    running: int = 0
    successes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    finished: bool = False
    name: str = ""
    instruction: str = ""
    unscripted: str = ""

    @property
    def waits(self) -> bool:
        """Whether a further attempt is needed even if all that run succeed: the same attempts are made whatever the
        number of simulators."""
        over = self.finished or self.unscripted or len(self.handed) >= self.most
        return not over and self.successes + self.running < self.wanted

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return not self.waits and self.running == 0

    @property
    def attempts(self) -> int:
        """That have ended."""
        return len(self.handed) - self.running

    def hand_out(self) -> int:
        """The number of an attempt that is to be made now."""
        number = next(n for n in range(len(self.handed) + 1) if n not in self.handed)
        self.handed.add(number)
        self.running += 1
        return number

    def count(self, result: AttemptResult) -> None:
        """Count an attempt that has ended."""
        self.handed.add(result.attempt)
        self.successes += result.success
        if result.success:
            self.seconds.append(result.seconds.get("total", 0.0))
        else:
            self.reasons[result.reason] += 1


class Collector:
    """A collection in progress."""

    def __init__(
        self,
        folder: CollectionFolder,
        simulator: Simulator,
        tasks: Sequence[int],
        most: int,
        told: Callable[[AttemptResult], None],
    ):
        """``told`` is called with each attempt that ends, from several threads; ``most`` limits a task's attempts."""
        self._folder, self._simulator, self._told = folder, simulator, told
        self.tasks = [self._begun(number, most) for number in tasks]
        self._change = threading.Condition()
        self._stop: BaseException | None = None
        self._open: set[SimulatorProcess] = set()

    def _begun(self, number: int, most: int) -> TaskProgress:
        """A task with the attempts that were made before."""
        task = TaskProgress(number, self._folder.collection.demos, most)
        for result in self._folder.made(number):
            task.count(result)
            task.name = result.name
        if task.name:
            self._check_finished(task)
        return task

    def _check_finished(self, task: TaskProgress) -> None:
        path = self._folder.file_of(task.name)
        if path.exists() and not task.finished:
            if (there := demos_in(path)) != task.wanted:
                raise BadCollection(
                    f"{path} holds {there} demonstrations and {task.wanted} are asked for: choose another --output, or "
                    "remove it"
                )
            task.finished = True

    def run(self, workers: int) -> None:
        """Collect what is missing.

        Raises:
            CollectionFailed: the simulator does not work.
            BadCollection: a finished file holds another number of demonstrations.
        """
        threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(workers)]
        run_all(threads, self._halt)
        if self._stop is not None:
            raise self._stop

    def _work(self, worker: int) -> None:
        process, opened = None, None
        try:
            while (found := self._next(opened)) is not None:
                process, opened = self._one(process, opened, *found, worker)
        except BaseException as error:
            self._halt(error)
        finally:
            self._close(process)

    def _next(self, opened: TaskProgress | None) -> tuple[TaskProgress, int] | None:
        """A task that needs an attempt, and the attempt's number: the task that is open, or one at which nobody works,
        or any; None when all have ended."""
        with self._change:
            while self._stop is None:
                waiting = [task for task in self.tasks if task.waits]
                if opened is not None and opened in waiting:
                    waiting = [opened]
                if waiting:
                    task = min(waiting, key=lambda one: (one.running, one.number))
                    return task, task.hand_out()
                if all(task.ended for task in self.tasks):
                    return None
                self._change.wait()
        return None

    def _one(
        self,
        process: SimulatorProcess | None,
        opened: TaskProgress | None,
        task: TaskProgress,
        attempt: int,
        worker: int,
    ) -> tuple[SimulatorProcess | None, TaskProgress | None]:
        """Make an attempt at a task; the process and the task that is open in it."""
        error = ""
        for _ in range(TRIES):
            try:
                if process is None:
                    process, opened = self._start(worker), None
                if opened is not task:
                    self._open_task(process, task)
                    opened = task
                if not self._skips(task, attempt):
                    self._attempt(process, task, attempt)
                return process, opened
            except SimulatorFailed as failed:
                if self._stop is not None:
                    raise
                error = str(failed)
                log.warning("task %d, attempt %d: %s", task.number, attempt, error)
                self._close(process)
                process = None
        raise CollectionFailed(f"task {task.number}, attempt {attempt}: {error} (see {self._folder.folder / LOGS})")

    def _open_task(self, process: SimulatorProcess, task: TaskProgress) -> None:
        what = self._folder.collection
        order = {"suite": what.suite, "task": task.number, "side": what.side, "depth": what.depth}
        order |= {"settle": what.settle_steps, "at_most": what.max_steps}
        order |= {"perturb": what.perturb, "pushes": what.pushes, "sway": what.sway}
        answer = process.ask(self._simulator.start_seconds, "the start of a task", do="open", **order)["opened"]
        with self._change:
            task.name, task.instruction, task.unscripted = (answer[k] for k in ("name", "instruction", "unscripted"))
            self._check_finished(task)

    def _skips(self, task: TaskProgress, attempt: int) -> bool:
        """Whether no attempt is to be made after all, now that the task is open."""
        with self._change:
            if not task.finished and not task.unscripted:
                return False
            task.handed.discard(attempt)
            task.running -= 1
            self._change.notify_all()
            return True

    def _attempt(self, process: SimulatorProcess, task: TaskProgress, attempt: int) -> None:
        what = self._folder.collection
        seed = what.attempt_seed(task.number, attempt)
        path = self._folder.part_of(task.number, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.partial")
        about = {"seed": seed, "attempt": attempt, "collection_seed": what.seed, "settle_steps": what.settle_steps}
        order = {"seed": seed, "about": about, "path": str(aside.absolute())}
        found = process.ask(ATTEMPT_SECONDS, "an attempt", do="demonstrate", **order)["result"]
        if found["success"]:
            os.replace(aside, path)
        result = AttemptResult(task.number, task.name, attempt, seed, **found)
        self._folder.add(result)
        with self._change:
            task.running -= 1
            task.count(result)
            whole = task.successes >= task.wanted and task.running == 0
            if whole:
                self._folder.assemble(task.number, task.name)
                task.finished = True
            self._change.notify_all()
        self._told(result)

    def _start(self, worker: int) -> SimulatorProcess:
        process = SimulatorProcess(self._simulator, self._folder.folder / LOGS / f"{worker}.log", PROGRAM)
        with self._change:
            self._open.add(process)
        return process

    def _close(self, process: SimulatorProcess | None) -> None:
        if process is not None:
            process.close()
            with self._change:
                self._open.discard(process)

    def _halt(self, error: BaseException) -> None:
        """End all simulators, so that their threads come to an end too."""
        with self._change:
            self._stop = self._stop or error
            still = list(self._open)
            self._change.notify_all()
        for process in still:
            process.close()
