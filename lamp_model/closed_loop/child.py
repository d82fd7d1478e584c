"""A simulator in a process of its own, so that its crash or hang costs one episode and not the evaluation."""

import json
import os
import queue
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
"""Folder of the package ``lamp_model``: the simulator's Python, which need not have LaMP installed, finds it there."""
PROGRAM = "lamp_model.closed_loop.simulation.child"
LAST_WORDS = 2000


class SimulatorFailed(RuntimeError):
    """The simulator's process ended, hung or raised; the message says which.

    Attributes:
        alive: whether the process can go on with the next episode.
    """

    def __init__(self, message: str, alive: bool):
        super().__init__(message)
        self.alive = alive


@dataclass(frozen=True)
class Simulator:
    """How to start a simulator's process.

    Attributes:
        python: the interpreter in whose environment the simulator is installed.
        gl: MuJoCo's renderer: ``egl`` (a GPU's, or Mesa's on a CPU) or ``osmesa``.
        step_seconds: the longest that a step of the environment may take.
        start_seconds: the longest that its start or a reset may take.
        policy_seconds: the longest that an answer of the policy may take.
        path: further folders in which to look for benchmarks.
    """

    python: Path
    gl: str = "egl"
    step_seconds: float = 60.0
    start_seconds: float = 600.0
    policy_seconds: float = 300.0
    path: tuple[Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """The process's environment variables."""
        folders = [ROOT, *self.path, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        rendering = {"MUJOCO_GL": self.gl, "PYOPENGL_PLATFORM": self.gl}
        return {
            **os.environ,
            **rendering,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "OMP_NUM_THREADS": "1",
            **self.environment,
        }


class SimulatorProcess:
    """A running process with one benchmark, or one task, open."""

    def __init__(self, simulator: Simulator, log: Path, program: str = PROGRAM):
        """Start the process; what it prints is appended to ``log``.

        Args:
            program: the module that carries out orders.
        """
        self._simulator = simulator
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log_path = log
        self._log = open(log, "ab")  # noqa: SIM115 - closed with the process
        self._log_begin = self._log.tell()
        self._process = subprocess.Popen(
            [str(simulator.python), "-m", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=simulator.variables(),
            cwd=log.parent,
            start_new_session=True,  # Ctrl-C ends the evaluation, which then ends this process
        )
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def open(self, benchmark: str, params: dict[str, Any], url: str) -> dict[str, Any]:
        """Open a benchmark; its ``tasks`` and ``max_steps``.

        Raises:
            SimulatorFailed: it does not open.
        """
        order = {"benchmark": benchmark, "params": params, "url": url, "policy_seconds": self._simulator.policy_seconds}
        return self.ask(self._simulator.start_seconds, "the start of the simulator", do="open", **order)

    def run(self, **episode: Any) -> dict[str, Any]:
        """Run an episode (see ``simulation.child``); its ``success``, ``steps`` and ``seconds``.

        Raises:
            SimulatorFailed: it came to no outcome.
        """
        self._order(do="episode", **episode)
        waits = {
            "simulator": (self._simulator.step_seconds, "a step of the simulator"),
            "policy": (self._simulator.policy_seconds * 1.5 + 30, "an answer of the policy"),
        }
        seconds, what = self._simulator.start_seconds, "the reset of the simulator"
        began = False
        while "result" not in (answer := self._answer(seconds, what)):
            if began:
                seconds, what = waits[answer["waits"]]
            began = True  # the first wait is for the reset, which may take long
        return answer["result"]

    def ask(self, seconds: float, what: str, **order: Any) -> dict[str, Any]:
        """Give an order that has one answer; the answer.

        Args:
            seconds: the longest that it may take.
            what: is waited for, for the message.

        Raises:
            SimulatorFailed: it was not carried out.
        """
        self._order(**order)
        return self._answer(seconds, what)

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue

    def __enter__(self) -> "SimulatorProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(self, **values: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(values) + "\n").encode())
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise SimulatorFailed(self._ended(), alive=False) from None

    def _answer(self, seconds: float, what: str) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise SimulatorFailed(f"{what} took more than {seconds:g} s: the process was ended", alive=False) from None
        if answer is None:
            raise SimulatorFailed(self._ended(), alive=False)
        if "failed" in answer:
            raise SimulatorFailed(f"{answer['failed']}: {answer['message']}", alive=True)
        return answer

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._answers.put(json.loads(line))
        except ValueError:
            pass  # the pipe was closed, or the last line was cut off
        self._answers.put(None)

    def _ended(self) -> str:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the simulator's process ended ({how}){self._last_words()}"

    def _last_words(self) -> str:
        """The last line that it printed."""
        with open(self._log_path, "rb") as file:
            file.seek(max(self._log_begin, self._log_path.stat().st_size - LAST_WORDS))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1][:300]}" if lines else ""
