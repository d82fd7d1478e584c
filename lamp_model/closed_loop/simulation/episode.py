"""One episode: the environment of a benchmark, and a policy behind vla-eval's protocol."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lamp_model.closed_loop.simulation.recording import Recording


class EpisodeFailed(RuntimeError):
    """The episode came to no outcome.

    Attributes:
        phase: ``simulator`` or ``policy``.
    """

    def __init__(self, phase: str, message: str):
        super().__init__(message)
        self.phase = phase


@dataclass(frozen=True)
class Request:
    """What an episode is to be.

    Attributes:
        task: one of the benchmark's tasks.
        episode: number of the initial state.
        max_steps: the limit.
        seed: of the policy's noise.
        frame_every: steps from one frame of the recording to the next; those that the policy looks at are always kept.
    """

    task: dict[str, Any]
    episode: int
    max_steps: int
    seed: int
    frame_every: int = 5


async def run_episode(
    benchmark: Any, connection: Any, request: Request, recording: Recording | None, beat: Callable[[str], None]
) -> dict[str, Any]:
    """Run an episode; its outcome.

    The server answers each observation with one action, and says how many of its chunk ``remaining``; until the last,
    observations carry no pictures and the benchmark need not render. Servers that do not say get every picture.

    Args:
        benchmark: a ``vla_eval.benchmarks.base.Benchmark``.
        connection: a connected ``vla_eval.connection.Connection``.
        beat: called with what is waited for, before each wait: ``simulator`` or ``policy``.

    Returns:
        ``success``, ``steps``, ``seconds`` in all and by what they were spent on; what was ``perturbed`` and what
        became of ``objects``, where the benchmark tells it.

    Raises:
        EpisodeFailed: the environment or the policy raised.
    """
    clock = _Clock(benchmark, beat)
    task = {**request.task, "episode_idx": request.episode}
    with clock.of("simulator", "reset"):
        await benchmark.start_episode(task)
        observation = await benchmark.get_observation()
    said = {name: value for name, value in task.items() if isinstance(value, str | int | float | bool)}
    with clock.of("policy", "policy"):
        await connection.start_episode({"task": {**said, "seed": request.seed}, "seed": request.seed})
    steps, done, every = 0, False, request.frame_every
    if recording is not None:
        recording.add_frame(observation, 0)
    while not done and steps < request.max_steps:
        with clock.of("policy", "policy"):
            action = await connection.act(observation)
        if recording is not None:
            recording.add_motion(action, steps)
        steps += 1
        look = not action.get("remaining", 0) or (recording is not None and steps % every == 0)
        with clock.of("simulator", "physics"):
            await benchmark.apply_action({**action, "observe": look})
            done = bool(await benchmark.is_done())
            light = {"task_description": observation.get("task_description", "")}
            observation = await benchmark.get_observation() if look else light
        if recording is not None and look:
            recording.add_frame(observation, steps)
    with clock.of("simulator", "physics"):
        result = await benchmark.get_result()
    success = bool(result["success"])
    await connection.end_episode({"success": success, "steps": steps})
    told = {name: value for name in ("perturbed", "objects") if (value := getattr(benchmark, name, {}))}
    return {"success": success, "steps": steps, "seconds": clock.spent(), **told}


class _Clock:
    """Seconds by what they were spent on; turns what is raised into ``EpisodeFailed``."""

    def __init__(self, benchmark: Any, beat: Callable[[str], None]):
        self._benchmark, self._beat = benchmark, beat
        self._start, self._rendered = time.perf_counter(), getattr(benchmark, "render_seconds", 0.0)
        self._spent = {"reset": 0.0, "policy": 0.0, "physics": 0.0, "rendering": 0.0}

    def of(self, waits_for: str, spent_on: str) -> "_Phase":
        return _Phase(self, waits_for, spent_on)

    def begin(self, waits_for: str) -> tuple[float, float]:
        self._beat(waits_for)
        return time.perf_counter(), getattr(self._benchmark, "render_seconds", 0.0)

    def end(self, spent_on: str, begun: tuple[float, float]) -> None:
        rendering = getattr(self._benchmark, "render_seconds", 0.0) - begun[1]
        self._spent[spent_on] += time.perf_counter() - begun[0] - rendering
        self._spent["rendering"] += rendering

    def spent(self) -> dict[str, float]:
        whole = {**self._spent, "total": time.perf_counter() - self._start}
        return {name: round(seconds, 3) for name, seconds in whole.items()}


class _Phase:
    def __init__(self, clock: _Clock, waits_for: str, spent_on: str):
        self._clock, self._waits_for, self._spent_on = clock, waits_for, spent_on

    def __enter__(self) -> None:
        self._begun = self._clock.begin(self._waits_for)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._clock.end(self._spent_on, self._begun)
        if isinstance(error, Exception) and not isinstance(error, EpisodeFailed):
            raise EpisodeFailed(self._waits_for, f"{type(error).__name__}: {error}") from error
