"""How a simulator's process answers: a line of JSON for each answer on what was its standard output."""

import json
import os
from collections.abc import Callable
from typing import Any


def answering() -> Callable[[dict[str, Any]], None]:
    """A function that sends an answer. What the simulator prints goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # simulators print to standard output

    def answer(values: dict[str, Any]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    return answer
