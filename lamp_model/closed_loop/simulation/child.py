"""The program of a simulator's process: ``python -m lamp_model.closed_loop.simulation.child``.

Orders come as one JSON object a line on standard input, answers go out likewise. What the simulator itself prints goes
to standard error.

==========  =================================================  ==============================================
order       with                                               answers
==========  =================================================  ==============================================
``open``    ``benchmark``, ``params``, ``url``,                ``{"tasks": [...], "max_steps": n}``
            ``policy_seconds``
``episode`` ``task`` (number), ``episode``, ``max_steps``,     ``{"waits": "simulator" | "policy"}``, ...,
            ``seed``, ``recording`` (path or null),            then ``{"result": {...}}``
            ``frame_every``
==========  =================================================  ==============================================

Either may be answered by ``{"failed": phase, "message": text}`` in place of its last answer.
"""

import contextlib
import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from vla_eval.connection import Connection

from lamp_model.closed_loop.simulation.answers import answering
from lamp_model.closed_loop.simulation.episode import EpisodeFailed, Request, run_episode
from lamp_model.closed_loop.simulation.recording import Recording


def main() -> None:
    """Carry out orders until standard input ends."""
    with contextlib.suppress(BrokenPipeError):  # whoever gave the orders is gone
        anyio.run(_Child(answering()).run)


class _Child:
    def __init__(self, answer: Any):
        self._answer = answer
        self._benchmark: Any = None
        self._connection: Any = None
        self._tasks: list[dict[str, Any]] = []

    async def run(self) -> None:
        carried_out = {"open": self._open, "episode": self._episode}
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            order = json.loads(line)
            try:
                await carried_out[order.pop("do")](**order)
            except EpisodeFailed as error:
                traceback.print_exc()
                self._answer({"failed": error.phase, "message": str(error)})
            except Exception as error:
                traceback.print_exc()
                self._answer({"failed": "simulator", "message": f"{type(error).__name__}: {error}"})
        if self._benchmark is not None:
            self._benchmark.cleanup()

    async def _open(self, benchmark: str, params: dict[str, Any], url: str, policy_seconds: float) -> None:
        if self._benchmark is not None:
            self._benchmark.cleanup()
        if self._connection is None:
            self._connection = Connection(url, timeout=policy_seconds)
            await self._connection.connect(benchmark=benchmark)
        module, _, name = benchmark.partition(":")
        self._benchmark = getattr(importlib.import_module(module), name)(**params)
        self._tasks = self._benchmark.get_tasks()
        shown = [{"name": task["name"], "category": task.get("category")} for task in self._tasks]
        self._answer({"tasks": shown, "max_steps": self._benchmark.get_metadata().get("max_steps")})

    async def _episode(
        self, task: int, episode: int, max_steps: int, seed: int, recording: str | None, frame_every: int
    ) -> None:
        request = Request(self._tasks[task], episode, max_steps, seed, frame_every)
        kept = None if recording is None else Recording()

        def beat(waits_for: str) -> None:
            self._answer({"waits": waits_for})

        try:
            result = await run_episode(self._benchmark, self._connection, request, kept, beat)
        except EpisodeFailed as error:
            if error.phase == "policy":  # the answer may still come: it must not be taken for the next one's
                await self._connection.close()
            raise
        if kept is not None and recording is not None:
            kept.write(Path(recording))
        self._answer({"result": result})


if __name__ == "__main__":
    main()
