"""The state of a running build in a file of its work folder, so that others can follow it and it outlives the driver.

The file is for people only: a build never reads it, and one that cannot write it goes on.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.build.episode_store import Quarantined
from schemas.errors import StoreFailed
from schemas.files import canonical_json
from schemas.locations import StorePath

STATE = "state.json"
EVERY_S = 5.0
STORE_EVERY_S = 15.0
"""Seconds from one writing to the next, into a folder and into an object store."""
SILENT_S = 60.0
"""Seconds without a writing after which a build on another machine is taken for ended."""
NAMED = 5
"""Messages kept of each reason of quarantine."""
SHOWN = 256
"""Tasks under way that are named; on more workers the rest is only counted."""
EPISODES = "episodes"


@dataclass
class BuildState:
    """What a build was doing when it last wrote its state.

    Attributes:
        host, process: where it runs.
        begun, heard: Unix times, in seconds, of its start and of this writing.
        ended: how it ended: ``finished``, or the reason for an error; None while it runs, or if it was killed.
        stage: what is worked on: ``listing``, ``words``, ``episodes``, ``shards`` or ``statistics``.
        stage_begun: Unix time, in seconds.
        total, before, done: tasks of the stage, those that an earlier run had finished, and those finished by now.
        under_way: names of tasks that workers have, each with the Unix time at which it was given to one.
        workers: number of tasks under way.
        quarantined: number of episodes and files by reason, of this run.
        messages: some messages of each reason.
        left_out: episodes excluded, by reason.
    """

    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)
    begun: float = 0.0
    heard: float = 0.0
    ended: str | None = None
    stage: str = "listing"
    stage_begun: float = 0.0
    total: int = 0
    before: int = 0
    done: int = 0
    under_way: dict[str, float] = field(default_factory=dict)
    workers: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    messages: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float | None:
        """Tasks a second of this run in this stage; None before the first."""
        seconds = self.heard - self.stage_begun
        return (self.done - self.before) / seconds if self.done > self.before and seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the stage is done, at the rate so far; None where it is not known."""
        rate = self.per_second
        return None if rate is None else (self.total - self.done) / rate

    def running(self, now: float) -> bool:
        """Whether the build still runs: its process exists on this machine, or it wrote a short time ago on another.

        Args:
            now: Unix time in seconds.
        """
        if self.ended is not None:
            return False
        if self.host != socket.gethostname():
            return now - self.heard < SILENT_S
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return now - self.heard < SILENT_S  # a process that writes nothing may be another one of this number


def read_state(work: Path) -> BuildState | None:
    """The state in a work folder; None if there is none that this program can read."""
    try:
        return BuildState(**json.loads((work / STATE).read_bytes()))
    except (OSError, StoreFailed, ValueError, TypeError):
        return None


class StateWriter:
    """Keeps the state of this build in its work folder, written every few seconds by a thread of its own."""

    def __init__(self, work: Path, clock: Callable[[], float] = time.time):
        self.work, self.clock = work, clock
        self.state = BuildState(begun=clock(), stage_begun=clock())
        self._names: dict[str, float] = {}
        self._codes: Counter[str] = Counter()
        self._changing = threading.Lock()

    def enter(self, stage: str, total: int, before: int = 0) -> None:
        """Begin a stage; ``before`` of its ``total`` tasks were finished by an earlier run."""
        with self._changing:
            self._names.clear()
            self.state.stage, self.state.stage_begun = stage, self.clock()
            self.state.total, self.state.before, self.state.done = total, before, before
        self.write()

    def begun(self, name: str) -> None:
        """A worker has been given a task."""
        with self._changing:
            self._names[name] = self.clock()

    def finished(self, name: str) -> None:
        """A task has a result."""
        with self._changing:
            self._names.pop(name, None)
            self.state.done += 1

    def quarantine(self, *those: Quarantined) -> None:
        """Count episodes or files that cannot be used."""
        with self._changing:
            for one in those:
                self._codes[one.code] += 1
                messages = self.state.messages.setdefault(one.code, [])
                if len(messages) < NAMED:
                    messages.append(one.message)

    def leave_out(self, counts: dict[str, int]) -> None:
        """Set how many episodes are excluded, by reason."""
        with self._changing:
            self.state.left_out = dict(counts)

    def write(self) -> None:
        """Write the state. It is not synced, since a build that has lost its power is not under way."""
        with self._changing:
            state = self.state
            state.heard = self.clock()
            state.workers, state.quarantined = len(self._names), dict(sorted(self._codes.items()))
            state.under_way = dict(list(self._names.items())[:SHOWN])
            data = canonical_json(asdict(state))
        with contextlib.suppress(OSError, StoreFailed):
            if isinstance(self.work, StorePath):
                (self.work / STATE).put(data)
                return
            aside = self.work / f".{STATE}.{os.getpid()}.partial"
            aside.write_bytes(data)
            os.rename(aside, self.work / STATE)


@contextlib.contextmanager
def kept_state(work: Path, every_s: float | None = None) -> Iterator[StateWriter]:
    """Keep the state of the build that the block runs; its end, or the error that ended it, is written too."""
    writer, over = StateWriter(work), threading.Event()
    every_s = every_s or (STORE_EVERY_S if isinstance(work, StorePath) else EVERY_S)

    def keep() -> None:
        while not over.wait(every_s):
            writer.write()

    thread = threading.Thread(target=keep, name="lamp-build-state", daemon=True)
    writer.write()
    thread.start()
    ended = "finished"
    try:
        yield writer
    except BaseException as error:
        ended = _said(error)
        raise
    finally:
        over.set()
        thread.join()
        writer.state.ended = ended
        writer.write()


def _said(error: BaseException) -> str:
    said: Any = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted"
    return said or type(error).__name__
