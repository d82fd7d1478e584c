"""Trials on a real robot: how far each came, stage by stage, as the paper reports its real tasks.

A task file names the stages of a task in order, and the conditions under which it is tried::

    task: pour
    instruction: pour the beans into the bowl
    stages: [reach the cup, grasp it, lift it over the bowl, pour, put it back]
    conditions:
      in-domain: 10        # trials
      new background: 10

The progress of a trial is the share of its stages that were reached, one after the other: 3 of 5 is 0.6.
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lamp_model.closed_loop.statistics import bootstrap_mean, wilson
from schemas.files import write_whole
from schemas.structured import read_structured, structure

TASK, TRIALS = "task.json", "trials.jsonl"


class BadTrials(ValueError):
    """The trials' folder or the task file cannot be used; the message says why."""


@dataclass(frozen=True)
class Task:
    """A task that is tried on a robot.

    Attributes:
        stages: in the order in which they are reached.
        conditions: number of trials by condition; the first is the one that the policy was trained on.
    """

    task: str
    instruction: str
    stages: tuple[str, ...]
    conditions: dict[str, int]

    def __post_init__(self) -> None:
        if not self.task.strip() or not self.instruction.strip():
            raise ValueError("a task needs a name and an instruction")
        if not self.stages or len(set(self.stages)) != len(self.stages):
            raise ValueError("a task needs stages, each with a name of its own")
        if not self.conditions or any(count < 1 for count in self.conditions.values()):
            raise ValueError("a task needs conditions, each with 1 trial or more")


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        reached: number of stages that were reached, from the first.
        note: what the person wrote.
    """

    policy: str
    condition: str
    number: int
    reached: int
    note: str = ""


@dataclass(frozen=True)
class Progress:
    """What the trials of one policy under one condition come to.

    Attributes:
        planned: trials that the task file asks for.
        mean: progress, 0 to 1; ``interval``: its 95% interval (bootstrap), None for one trial.
        successes: trials that reached all stages; ``success_interval``: 95% (Wilson).
        by_stage: share of the trials that reached each stage.
    """

    policy: str
    condition: str
    trials: int
    planned: int
    mean: float
    interval: tuple[float, float] | None
    successes: int
    success_interval: tuple[float, float]
    by_stage: tuple[float, ...]


def read_task(path: Path) -> Task:
    """Read a task file.

    Raises:
        BadFile: it cannot be read or has other contents.
    """
    return structure(Task, read_structured(path), str(path))


class TrialFolder:
    """The trials of one task, a line each; added to as they are made."""

    def __init__(self, folder: Path, task: Task):
        """Begin a folder, or go on in it.

        Raises:
            BadTrials: it holds another task's trials.
        """
        self.folder, self.task = folder, task
        path = folder / TASK
        if path.exists():
            there = structure(Task, json.loads(path.read_bytes()), str(path))
            if (there.task, there.stages) != (task.task, task.stages):
                raise BadTrials(
                    f"{folder} holds trials of the task {there.task!r} with other stages: choose another folder"
                )
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(task), indent=1, ensure_ascii=False).encode() + b"\n")
        self.trials = self._read()

    def missing(self, policy: str) -> list[tuple[str, int]]:
        """Condition and number of the trials that a policy still lacks, in order."""
        there = {(trial.condition, trial.number) for trial in self.trials if trial.policy == policy}
        planned = [(name, number) for name, count in self.task.conditions.items() for number in range(1, count + 1)]
        return [one for one in planned if one not in there]

    def add(self, policy: str, condition: str, reached: int, note: str = "") -> Trial:
        """Add a trial as the next of its condition; it is on the disk when this returns.

        Raises:
            BadTrials: no such condition, or more stages than there are.
        """
        if condition not in self.task.conditions:
            raise BadTrials(f"the condition must be one of {', '.join(self.task.conditions)}, found {condition!r}")
        if not 0 <= reached <= len(self.task.stages):
            raise BadTrials(f"a trial reaches 0 to {len(self.task.stages)} stages, found {reached}")
        numbers = [trial.number for trial in self.trials if (trial.policy, trial.condition) == (policy, condition)]
        trial = Trial(policy, condition, max(numbers, default=0) + 1, reached, note)
        with open(self.folder / TRIALS, "ab") as file:
            file.write((json.dumps(asdict(trial), ensure_ascii=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        self.trials.append(trial)
        return trial

    def progress(self) -> list[Progress]:
        """By policy and condition, in the order of the trials and of the task file."""
        found = []
        for policy in dict.fromkeys(trial.policy for trial in self.trials):
            for condition in self.task.conditions:
                some = [t for t in self.trials if (t.policy, t.condition) == (policy, condition)]
                if some:
                    found.append(self._progress(policy, condition, some))
        return found

    def as_csv(self) -> str:
        """A row for each trial."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["task", "policy", "condition", "trial", "reached", "stages", "progress", "note"])
        stages = len(self.task.stages)
        for t in self.trials:
            rows.writerow(
                [self.task.task, t.policy, t.condition, t.number, t.reached, stages, t.reached / stages, t.note]
            )
        return text.getvalue()

    def _progress(self, policy: str, condition: str, some: Sequence[Trial]) -> Progress:
        stages = len(self.task.stages)
        values = [trial.reached / stages for trial in some]
        successes = sum(trial.reached == stages for trial in some)
        return Progress(
            policy,
            condition,
            len(some),
            self.task.conditions[condition],
            sum(values) / len(values),
            bootstrap_mean(values) if len(values) > 1 else None,
            successes,
            wilson(successes, len(some)),
            tuple(sum(trial.reached > place for trial in some) / len(some) for place in range(stages)),
        )

    def _read(self) -> list[Trial]:
        path = self.folder / TRIALS
        if not path.exists():
            return []
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):  # cut off by an interruption
            data = data[: data.rfind(b"\n") + 1]
            with open(path, "r+b") as file:
                file.truncate(len(data))
        lines = enumerate(data.splitlines(), 1)
        return [structure(Trial, _parsed(path, number, line), f"{path}, line {number}") for number, line in lines]


def _parsed(path: Path, number: int, line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise BadTrials(f"{path}, line {number} is no JSON: {error}") from error


def as_text(task: Task, progress: Sequence[Progress]) -> str:
    """A table for a terminal."""
    lines = [f"{task.task}: {len(task.stages)} stages ({'; '.join(task.stages)})"]
    wide = max((len(one.policy) for one in progress), default=6)
    narrow = max(len(name) for name in task.conditions)
    for one in progress:
        interval = (
            f"[{100 * one.interval[0]:.1f}, {100 * one.interval[1]:.1f}]" if one.interval else "[one trial: none]"
        )
        counts = f"{one.trials} of {one.planned} trials"
        lines.append(
            f"{one.policy:<{wide}}  {one.condition:<{narrow}}  {counts:>15}  progress {100 * one.mean:5.1f}% "
            f"{interval}  success {one.successes}/{one.trials}"
        )
    return "\n".join(lines)
