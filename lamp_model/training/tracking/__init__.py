"""Trackers: where the lines of ``metrics.jsonl`` are shown while a run trains. One module is one tracker.

A module defines ``PACKAGE``, the library that it needs by its import name, and ``open_tracker(run)``, which returns a
``Tracker``. Trackers are a copy: ``metrics.jsonl`` is always written, and a tracker that fails is closed with a
sentence while training goes on.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from schemas.errors import MissingDependency, first_line
from schemas.optional import EXTRAS

TRACKERS = ("tensorboard", "wandb", "trackio")


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker shows.

    Attributes:
        folder: of the run.
        config: as in ``config.json``.
        done: optimiser steps done; what was shown of later ones is repeated.
    """

    folder: Path
    config: Mapping[str, Any]
    done: int

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name


class Tracker(Protocol):
    """An open tracker."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Show the numbers of a step."""
        ...

    def close(self) -> None:
        """Write everything that is left."""
        ...


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose library is not installed.

    Raises:
        ValueError: there is no such tracker.
        MissingDependency: its library is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"track must be {', '.join(TRACKERS[:-1])} or {TRACKERS[-1]}, found {name!r}")
        package = _module(name).PACKAGE
        if find_spec(package) is None:
            raise MissingDependency(
                f"{package} is not installed, which --track {name} needs: pip install "
                f"'lamp-robotics[{EXTRAS[package]}]', or leave --track out: metrics.jsonl has the same numbers"
            )


@contextmanager
def trackers(names: Sequence[str], run: TrackedRun) -> Iterator["Trackers"]:
    """Open trackers, and close them at the end."""
    opened = Trackers(names, run)
    try:
        yield opened
    finally:
        opened.close()


class Trackers:
    """Several trackers as one; none by default."""

    def __init__(self, names: Sequence[str] = (), run: TrackedRun | None = None):
        self._open: dict[str, Tracker] = {}
        for name in names:
            try:
                self._open[name] = _module(name).open_tracker(run)
            except Exception as error:  # libraries raise their own errors, for example without a network
                self._give_up(name, error)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Show the numbers of a line of ``metrics.jsonl``."""
        numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
        for name, tracker in list(self._open.items()):
            try:
                tracker.write(step, numbers)
            except Exception as error:
                self._give_up(name, error)

    def close(self) -> None:
        """Close all."""
        for name, tracker in list(self._open.items()):
            try:
                tracker.close()
            except Exception as error:
                self._give_up(name, error)
        self._open.clear()

    def _give_up(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        print(
            f"{name} shows this run no longer: {first_line(error) or type(error).__name__}; training goes on, and "
            "metrics.jsonl has every line",
            flush=True,
        )


def _module(name: str) -> Any:
    return import_module(f"{__name__}._{name}")
