"""Runs an evaluation: the episodes that are missing, over several simulators, against one policy server."""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lamp_model.closed_loop.benchmarks import Suite
from lamp_model.closed_loop.child import Simulator, SimulatorFailed, SimulatorProcess
from lamp_model.closed_loop.results import EpisodeResult, ResultFolder
from lamp_model.closed_loop.worker_threads import run_all

log = logging.getLogger(__name__)
SIMULATORS, RECORDINGS = "simulators", "recordings"
TRIES = 2
"""Times that an episode is begun before its error is written down; the second time in a new process."""
FAILS_ALWAYS = 3
"""Errors in a row, with nothing finished in between, after which an evaluation stops: the simulator does not work."""


class EvaluationFailed(RuntimeError):
    """The evaluation cannot go on; the message says why."""


@dataclass(frozen=True)
class Plan:
    """What to evaluate.

    Attributes:
        suite: whose tasks.
        tasks: numbers of tasks; None takes all.
        episodes: number of initial states of each task; None takes as many as are published.
        first: number of the first of them; those before it may be where demonstrations began.
        record: keep frames and motion of each episode, for its video.
        frame_every: steps from one frame of a recording to the next.
    """

    suite: Suite
    tasks: tuple[int, ...] | None = None
    episodes: int | None = None
    first: int = 0
    record: bool = True
    frame_every: int = 5


@dataclass(frozen=True)
class _Job:
    """Missing episodes of one task, in order."""

    task: int
    text: str
    category: str | None
    max_steps: int
    episodes: tuple[int, ...]


class Runner:
    """An evaluation in progress."""

    def __init__(
        self,
        plan: Plan,
        results: ResultFolder,
        simulator: Simulator,
        finished: Callable[[EpisodeResult, Path | None], EpisodeResult],
    ):
        """``finished`` is called with each result and its recording, and returns the result to keep; it may be called
        from several threads."""
        self._plan, self._results, self._simulator, self._finished = plan, results, simulator, finished
        self._protocol = results.evaluation.protocol
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._stop: BaseException | None = None
        self._errors_in_row = 0
        self._lock = threading.Lock()
        self._open: set[SimulatorProcess] = set()

    def run(self, url: str, parallel: int = 1) -> None:
        """Run what is missing.

        Args:
            url: of the policy server.
            parallel: number of simulators at the same time; each takes whole tasks.

        Raises:
            EvaluationFailed: a benchmark cannot be opened, or every episode fails.
        """
        first = self._start(0)
        try:
            jobs = self._missing(self._opened(first, url))
        except BaseException:
            self._close(first)
            raise
        for job in jobs:
            self._jobs.put(job)
        workers = max(1, min(parallel, len(jobs)))
        threads = [
            threading.Thread(target=self._work, args=(url, number, None if number else first), daemon=True)
            for number in range(workers)
        ]
        run_all(threads, self._halt)
        if self._stop is not None:
            raise self._stop

    def _opened(self, process: SimulatorProcess, url: str) -> dict[str, Any]:
        """What the benchmark says of itself when it opens; only the simulator knows the tasks."""
        suite = self._plan.suite
        try:
            return process.open(suite.benchmark, suite.arguments(self._protocol), url)
        except SimulatorFailed as error:
            if self._stop is not None:
                raise self._stop from error
            raise EvaluationFailed(f"{suite.name} does not open: {error} ({self._log_path(0)})") from error

    def _missing(self, opened: dict[str, Any]) -> list[_Job]:
        """The episodes without an outcome, by task."""
        suite, tasks = self._plan.suite, opened["tasks"]
        numbers = range(len(tasks)) if self._plan.tasks is None else self._plan.tasks
        if beyond := [number for number in numbers if not 0 <= number < len(tasks)]:
            raise EvaluationFailed(f"{suite.name} has tasks 0 to {len(tasks) - 1}, and --tasks names {beyond[0]}")
        there = self._results.finished(suite.name)
        limit = self._protocol.max_steps or opened["max_steps"] or 300
        first, count = self._plan.first, self._plan.episodes
        last = suite.episodes if count is None else first + count
        jobs = []
        for number in numbers:
            missing = tuple(episode for episode in range(first, last) if (number, episode) not in there)
            if missing:
                jobs.append(_Job(number, tasks[number]["name"], tasks[number].get("category"), limit, missing))
        return jobs

    def _work(self, url: str, number: int, process: SimulatorProcess | None) -> None:
        """Take jobs until there are none."""
        try:
            while self._stop is None:
                job = self._jobs.get_nowait()
                for episode in job.episodes:
                    process = self._one(process, job, episode, url, number)
                    if self._stop is not None:
                        return
        except queue.Empty:
            return
        except BaseException as error:
            if self._stop is None:
                self._stop = error
        finally:
            self._close(process)

    def _one(
        self, process: SimulatorProcess | None, job: _Job, episode: int, url: str, number: int
    ) -> SimulatorProcess | None:
        """Run one episode and keep its result; the process with which to go on."""
        suite = self._plan.suite
        seed = self._protocol.episode_seed(suite.place, job.task, episode)
        named = EpisodeResult(suite.name, job.task, job.text, episode, None, seed=seed, category=job.category)
        recording = self._recording_path(named) if self._plan.record else None
        error = ""
        for attempt in range(TRIES):
            try:
                if process is None:
                    process = self._start(number)
                    process.open(suite.benchmark, suite.arguments(self._protocol), url)
                found = process.run(
                    task=job.task,
                    episode=episode,
                    max_steps=job.max_steps,
                    seed=seed,
                    recording=None if recording is None else str(recording),
                    frame_every=self._plan.frame_every,
                )
            except SimulatorFailed as failed:
                if self._stop is not None:
                    return process
                error = str(failed)
                self._close(process)  # after an error inside the simulator, too, its state is not trusted
                process = None
                again = "; it is tried again" if attempt + 1 < TRIES else ""
                log.warning("%s, task %d, episode %d: %s%s", suite.name, job.task, episode, error, again)
            else:
                self._keep(replace(named, **found), recording)
                return process
        self._keep(replace(named, error=error), None)
        return None

    def _keep(self, result: EpisodeResult, recording: Path | None) -> None:
        there = recording if recording is not None and recording.exists() else None
        self._results.add(self._finished(result, there))
        if there is not None:
            there.unlink(missing_ok=True)
        with self._lock:
            self._errors_in_row = 0 if result.error is None else self._errors_in_row + 1
            if self._errors_in_row >= FAILS_ALWAYS:
                raise EvaluationFailed(
                    f"{FAILS_ALWAYS} episodes in a row came to no outcome, the last with: {result.error}; "
                    f"see {self.log_folder}"
                )

    @property
    def log_folder(self) -> Path:
        """What the simulators printed."""
        return self._results.folder / SIMULATORS

    def _log_path(self, number: int) -> Path:
        return self.log_folder / f"{number}.log"

    def _recording_path(self, named: EpisodeResult) -> Path:
        folder = (self._results.folder / RECORDINGS).absolute()
        folder.mkdir(exist_ok=True)
        return folder / f"{named.suite.replace(':', '-')}-{named.task}-{named.episode}.npz"

    def _start(self, number: int) -> SimulatorProcess:
        process = SimulatorProcess(self._simulator, self._log_path(number))
        with self._lock:
            self._open.add(process)
        return process

    def _close(self, process: SimulatorProcess | None) -> None:
        if process is not None:
            process.close()
            with self._lock:
                self._open.discard(process)

    def _halt(self, interrupt: BaseException) -> None:
        """End all simulators, so that their threads come to an end too."""
        self._stop = interrupt
        with self._lock:
            still = list(self._open)
        for process in still:
            process.close()
