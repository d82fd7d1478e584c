"""A folder of demonstrations that is being collected: which attempts were made, and a file for each finished task.

``<suite>/<task>_demo.hdf5`` is whole or absent. Until it is there, each success lies in a hidden folder beside it, and
``attempts.jsonl`` has a line for each attempt, so that an interrupted collection goes on with what is missing.
"""

import json
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lamp_model.closed_loop.protocol import in_words
from schemas.files import remove_partials, sync_folder, write_whole
from schemas.structured import structure

COLLECTION, ATTEMPTS, LOCK, PARTS = "collection.json", "attempts.jsonl", ".lock", ".parts"
ATTEMPT = 1
"""Marks the seeds of attempts. Those of evaluated episodes are made of the same numbers without it
(``perturbations.spec.episode_seed``): things must not stand there where demonstrations had them."""


class BadCollection(ValueError):
    """The folder holds something else than what is asked for; the message says what."""


@dataclass(frozen=True)
class Collection:
    """What is collected.

    Attributes:
        suite: whose tasks.
        demos: successes of each task.
        seed: of the collection; with the task's number and the attempt's it gives the seed of an attempt.
        side: of the pictures, pixels.
        depth: keep depth too.
        settle_steps: steps without motion before a recording begins.
        max_steps: of a demonstration.
        perturb: perturbations of each, such as ``camera:1``; an attempt's seed decides what they draw.
        pushes: mean number in 100 steps.
        sway: standard deviation of the noise in every movement, as an action.
    """

    suite: str
    demos: int
    seed: int = 0
    side: int = 256
    depth: bool = False
    settle_steps: int = 10
    max_steps: int = 300
    perturb: tuple[str, ...] = ()
    pushes: float = 0.0
    sway: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("demos", 1), ("seed", 0), ("side", 16), ("settle_steps", 0), ("max_steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{_option(name)} must be {least} or more, found {getattr(self, name)}")
        if not 0 <= self.pushes <= 100:
            raise ValueError(f"--pushes must be 0 to 100, found {self.pushes:g}")
        if not 0 <= self.sway <= 1:
            raise ValueError(f"--sway must be 0 to 1, found {self.sway:g}")

    def attempt_seed(self, task: int, attempt: int) -> int:
        """The seed of everything that is left to chance in an attempt, 0 to 2^32 - 1."""
        return int(np.random.SeedSequence((self.seed, task, attempt, ATTEMPT)).generate_state(1)[0])


@dataclass(frozen=True)
class AttemptResult:
    """An attempt that has ended.

    Attributes:
        task: its number in the suite; ``name`` as in the name of its file.
        reason: why it failed; empty for a success.
        seconds: in all (``total``) and of it until the attempt had ended (``physics``).
    """

    task: int
    name: str
    attempt: int
    seed: int
    success: bool
    reason: str = ""
    steps: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class CollectionFolder:
    """The folder of one suite. Several threads may add."""

    def __init__(self, output: Path, collection: Collection):
        """Begin the folder, or go on in it.

        Raises:
            BadCollection: it holds demonstrations that were collected otherwise, or is damaged.
        """
        self.folder, self.collection = output / collection.suite, collection
        self._lock = threading.Lock()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / COLLECTION
        if path.exists() and (self.folder / ATTEMPTS).exists():
            _check_same(path, collection)
        write_whole(path, json.dumps(asdict(collection), indent=1).encode() + b"\n")
        remove_partials(self.folder)
        self.results = {(one.task, one.attempt): one for one in _read_attempts(self.folder / ATTEMPTS)}

    def file_of(self, name: str) -> Path:
        """Where a task's demonstrations are when all are there."""
        return self.folder / f"{name}_demo.hdf5"

    def part_of(self, task: int, attempt: int) -> Path:
        """Where a success is until then."""
        return self.folder / PARTS / str(task) / f"{attempt}.hdf5"

    def made(self, task: int) -> list[AttemptResult]:
        """Attempts at a task that need not be made again, in order; a success counts while its part or the task's file
        is there."""
        some = sorted((one for one in self.results.values() if one.task == task), key=lambda one: one.attempt)
        return [one for one in some if not one.success or self._is_kept(one)]

    def _is_kept(self, one: AttemptResult) -> bool:
        return self.part_of(one.task, one.attempt).is_file() or self.file_of(one.name).is_file()

    def add(self, result: AttemptResult) -> None:
        """Append a result; it is on the disk when this returns."""
        line = (json.dumps(asdict(result)) + "\n").encode()
        with self._lock:
            with open(self.folder / ATTEMPTS, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self.results[result.task, result.attempt] = result

    def assemble(self, task: int, name: str) -> Path:
        """Write a task's file from the parts of its first successes, which are removed."""
        import h5py

        wanted = [one for one in self.made(task) if one.success][: self.collection.demos]
        path = self.file_of(name)
        aside = path.with_name(f".{path.name}.partial")
        total = 0
        with h5py.File(aside, "w") as file:
            data = file.create_group("data")
            for number, one in enumerate(wanted):
                with h5py.File(self.part_of(task, one.attempt), "r") as part:
                    data.attrs.update(part["data"].attrs)
                    part.copy("data/demo_0", data, f"demo_{number}")
                total += one.steps
            data.attrs.update({"num_demos": len(wanted), "total": total})
        with open(aside, "rb") as written:
            os.fsync(written.fileno())
        os.replace(aside, path)
        sync_folder(path.parent)
        shutil.rmtree(self.folder / PARTS / str(task), ignore_errors=True)
        return path


def demos_in(path: Path) -> int:
    """How many demonstrations a finished file holds."""
    import h5py

    with h5py.File(path, "r") as file:
        return int(file["data"].attrs["num_demos"])  # pyright: ignore[reportArgumentType]


def _check_same(path: Path, wanted: Collection) -> None:
    """More demonstrations may be asked for while a task is unfinished; all else must be as it was."""
    there = structure(Collection, _parsed(path, path.read_bytes()), str(path))
    if replace(there, demos=wanted.demos) != wanted:
        found, asked = asdict(there), asdict(wanted)
        differs = [name for name in asked if found[name] != asked[name] and name != "demos"]
        said = ", ".join(f"{_option(name)} {in_words(found[name])}, not {in_words(asked[name])}" for name in differs)
        raise BadCollection(f"{path.parent} was collected with {said}: choose another --output")


def _option(name: str) -> str:
    """How a field of a collection is called on the command line."""
    return "--" + {"side": "size"}.get(name, name).replace("_", "-")


def _read_attempts(path: Path) -> Sequence[AttemptResult]:
    """All attempts; a line cut off by an interruption is removed."""
    if not path.exists():
        return []
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        data = data[: data.rfind(b"\n") + 1]
        with open(path, "r+b") as file:
            file.truncate(len(data))
    lines = enumerate(data.splitlines(), 1)
    return [structure(AttemptResult, _parsed(path, line), f"{path}, line {number}") for number, line in lines]


def _parsed(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise BadCollection(f"{path} is damaged: {error}; remove it, or choose another --output") from error
