"""The program that makes demonstrations: ``python -m lamp_model.closed_loop.simulation.demonstrator``.

Orders and answers are lines of JSON, as in ``child``.

===============  ===============================================  ====================================================
order            with                                             answers
===============  ===============================================  ====================================================
``open``         ``suite``, ``task`` (number), ``side``,          ``{"opened": {"name": ..., "unscripted": ..., ...}}``
                 ``depth``, ``settle``, ``at_most``, ``perturb``,
                 ``pushes``, ``sway``
``demonstrate``  ``seed``, ``about`` (attributes), ``path``       ``{"result": {"success": ..., "steps": ..., ...}}``
===============  ===============================================  ====================================================

Either may be answered by ``{"failed": "simulator", "message": text}``. ``path`` is written if the attempt succeeds.
"""

import json
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from lamp_model.closed_loop.simulation.answers import answering
from lamp_model.closed_loop.simulation.perturbations.perturber import Perturber
from lamp_model.closed_loop.simulation.perturbations.spec import parse
from lamp_model.closed_loop.simulation.scripted.demonstration import attempt
from lamp_model.closed_loop.simulation.scripted.environments import OpenTask, open_task
from lamp_model.closed_loop.simulation.scripted.recorded import Look, write_demonstration
from lamp_model.closed_loop.simulation.scripted.tasks import NoScript, task_skills


def main() -> None:
    """Carry out orders until standard input ends."""
    warnings.filterwarnings("ignore")
    answer = answering()
    demonstrator = _Demonstrator()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer(getattr(demonstrator, order.pop("do"))(**order))
        except Exception as error:
            traceback.print_exc()
            answer({"failed": "simulator", "message": f"{type(error).__name__}: {error}"})


class _Demonstrator:
    """Carries out orders, each a method."""

    def __init__(self) -> None:
        self._task: OpenTask | None = None
        self._how: dict[str, Any] = {}

    def open(self, suite: str, task: int, **how: Any) -> dict[str, Any]:
        if self._task is not None:
            self._task.environment.close()
        self._task, self._how = open_task(suite, task), how
        try:
            task_skills(self._task)
            unscripted = ""
        except NoScript as error:
            unscripted = str(error)
        named = {"name": self._task.name, "instruction": self._task.instruction}
        return {"opened": {**named, "unscripted": unscripted}}

    def demonstrate(self, seed: int, about: dict[str, Any], path: str) -> dict[str, Any]:
        assert self._task is not None
        begin = time.perf_counter()
        perturber = Perturber(parse(self._how["perturb"]), seed)
        how = self._how
        made = attempt(self._task, seed, perturber, how["settle"], how["at_most"], how["pushes"], how["sway"])
        physics = time.perf_counter() - begin
        if not made.reason:
            look = Look(self._how["side"], self._how["depth"], perturber)
            write_demonstration(Path(path), self._task, made, about, look)
        seconds = {"physics": physics, "total": time.perf_counter() - begin}
        result = {"success": not made.reason, "reason": made.reason, "steps": len(made.trajectory.actions)}
        return {"result": {**result, "seconds": {name: round(value, 2) for name, value in seconds.items()}}}


if __name__ == "__main__":
    main()
