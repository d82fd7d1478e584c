"""A folder of results: ``evaluation.json`` says who acted and how, ``episodes.jsonl`` has a line for each episode.

Lines are appended and synced as episodes end, so an evaluation that was interrupted goes on where it was. A line that
was cut off by an interruption is left out and its episode runs again. An episode that ended in an error of the
simulator has a line too; it runs again when the same command is given again, and the later line counts.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from lamp_model.closed_loop.protocol import Protocol
from schemas.errors import first_line
from schemas.files import write_whole
from schemas.structured import structure
from schemas.version import VERSION

LIFTED_M = 0.03
"""An object that was raised by so much was lifted: more than a hand that pushes or tips it does."""
EVALUATION, EPISODES, LOCK = "evaluation.json", "episodes.jsonl", ".lock"


class BadResults(ValueError):
    """The folder of results is damaged, or of another policy or protocol; the message names it."""


@dataclass(frozen=True)
class PolicyIdentity:
    """Which policy acted.

    Attributes:
        source: as it was given: a folder or a name on the hub.
        digest: of its weights and config; equal for equal policies wherever they lie.
        cell: the published cell that it stands for, such as ``lamp`` or ``no_motion``; empty where it stands for none.
    """

    source: str
    digest: str
    cell: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What all episodes of a folder have in common.

    Attributes:
        made_with: versions of LaMP, vla-eval and torch, for the record.
    """

    policy: PolicyIdentity
    protocol: Protocol
    made_with: dict[str, str] = field(default_factory=lambda: _versions())


def _versions() -> dict[str, str]:
    """LaMP's version, and those of the packages that decide outcomes, where they are installed."""
    found = {"lamp": VERSION}
    for name in ("vla-eval", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode.

    Attributes:
        suite: the benchmark's name.
        task: its number in the suite; ``text`` is its instruction.
        episode: number of the initial state.
        success: None where the simulator failed and the episode came to no outcome.
        steps: actions carried out.
        seed: of the policy's noise.
        seconds: in all (``total``) and by what they were spent on (``reset``, ``policy``, ``physics``, ``rendering``).
        error: what failed, where there is no outcome.
        video: path relative to the folder, where one was written.
        category: the kind of perturbation, where the benchmark names one.
        perturbed: what our own perturbations drew, by axis.
        objects: of each object that the goal wants elsewhere, ``nearest_m`` and ``raised_m``: how near the hand came,
            and how far it was raised (``lamp_model.closed_loop.simulation.handled_objects``). Empty where there is none
            and where nobody looked.
    """

    suite: str
    task: int
    text: str
    episode: int
    success: bool | None
    steps: int = 0
    seed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    video: str | None = None
    category: str | None = None
    perturbed: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, int]:
        """What names the episode: suite, task, initial state."""
        return self.suite, self.task, self.episode

    @property
    def lifted(self) -> bool | None:
        """Whether an object that the goal wants elsewhere was lifted; None where nothing is told of any."""
        if not self.objects or self.success is None:
            return None
        return any(one["raised_m"] >= LIFTED_M for one in self.objects.values())

    @property
    def told(self) -> str:
        """The instruction as the policy got it: in other words where the perturbation of language chose some."""
        return self.perturbed.get("language", {}).get("instruction", self.text)


class ResultFolder:
    """Results that an evaluation adds to. Several threads may add."""

    def __init__(self, folder: Path, evaluation: Evaluation):
        """Begin the folder, or go on in it.

        Raises:
            BadResults: it holds another policy's or protocol's results, or is damaged.
            OSError: it cannot be written.
        """
        self.folder, self.evaluation = folder, evaluation
        self._lock = threading.Lock()
        if (folder / EVALUATION).exists():
            _check_same(folder, read_evaluation(folder), evaluation)
        elif (folder / EPISODES).exists():
            raise BadResults(f"{folder / EPISODES} exists without {EVALUATION}: choose another folder")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / EVALUATION, json.dumps(asdict(evaluation), indent=1).encode() + b"\n")
        _cut_torn_line(folder / EPISODES)
        self._results = {result.key: result for result in read_results(folder)}

    def finished(self, suite: str) -> set[tuple[int, int]]:
        """Task and episode of what has an outcome."""
        return {(r.task, r.episode) for r in self._results.values() if r.suite == suite and r.success is not None}

    def add(self, result: EpisodeResult) -> None:
        """Append a result; it is on the disk when this returns."""
        line = (json.dumps(asdict(result), ensure_ascii=False) + "\n").encode()
        with self._lock:
            with open(self.folder / EPISODES, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._results[result.key] = result

    @property
    def results(self) -> list[EpisodeResult]:
        """The last result of each episode, by suite, task and episode."""
        return sorted(self._results.values(), key=lambda result: result.key)


def read_evaluation(folder: Path) -> Evaluation:
    """Whose results a folder holds.

    Raises:
        BadResults: it holds none, or they are damaged.
    """
    path = folder / EVALUATION
    try:
        return structure(Evaluation, json.loads(path.read_bytes()), EVALUATION)
    except FileNotFoundError:
        raise BadResults(f"{folder} holds no results of lamp-policy evaluate: {EVALUATION} is missing") from None
    except (OSError, ValueError) as error:
        raise BadResults(f"{path} cannot be read: {first_line(error)}") from error


def read_results(folder: Path) -> list[EpisodeResult]:
    """The last result of each episode, by suite, task and episode; a line cut off at the end is left out.

    Raises:
        BadResults: another line is damaged.
    """
    path = folder / EPISODES
    if not path.exists():
        return []
    found: dict[tuple[str, int, int], EpisodeResult] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            result = structure(EpisodeResult, json.loads(line), f"line {number}")
        except ValueError as error:
            raise BadResults(
                f"{path}, line {number} cannot be read ({first_line(error)}): remove it and the episode runs again"
            ) from error
        found[result.key] = result
    return sorted(found.values(), key=lambda result: result.key)


def _cut_torn_line(path: Path) -> None:
    """Remove what follows the last whole line, so that the next one does not join it."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with open(path, "r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def _check_same(folder: Path, there: Evaluation, wanted: Evaluation) -> None:
    if there.policy.digest != wanted.policy.digest:
        raise BadResults(
            f"{folder} holds results of {there.policy.source} ({there.policy.digest}), not of {wanted.policy.source} "
            f"({wanted.policy.digest}): choose another --output"
        )
    differences = there.protocol.differences(wanted.protocol)
    if differences:
        raise BadResults(f"{folder} holds results of another protocol ({differences}): choose another --output")


def by_suite(results: Iterable[EpisodeResult]) -> dict[str, list[EpisodeResult]]:
    """Results by suite, in the order in which suites first appear."""
    found: dict[str, list[EpisodeResult]] = {}
    for result in results:
        found.setdefault(result.suite, []).append(result)
    return found


def as_dict(result: EpisodeResult) -> dict[str, Any]:
    """For JSON."""
    return asdict(result)
