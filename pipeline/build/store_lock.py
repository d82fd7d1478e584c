"""One build at a time in a folder of a store, by conditional writes: an object is written only if it is not there.

A build holds the lock object ``.lamp/lock-000001`` with a token of its own, and rewrites it while it runs. When that
stops for long enough, the build is taken for dead, and the next one writes ``lock-000002`` by a conditional write, so
that only one can. The highest number holds. A build that was only slow finds the higher number before it publishes
anything, and gives up.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import BuildError
from schemas.errors import StoreFailed
from schemas.files import canonical_json
from schemas.locations import StorePath

LOCK = re.compile(r"lock-(\d{6})")
BEAT_S = 15.0
"""Seconds between two signs of life."""
DEAD_S = 120.0
"""Seconds without a sign of life after which a build on another machine is taken for dead."""

_LOG = logging.getLogger(__name__)
_HELD: dict[str, "_StoreLock"] = {}
_LIVING: set[str] = set()
"""Tokens of this process's locks that were not released."""


@contextlib.contextmanager
def held_in_store(work: StorePath) -> Iterator[None]:
    """Hold the lock of a work folder in a store during the block.

    Raises:
        BuildError: another build holds it; the message says which, and when it gave its last sign of life.
        StoreFailed: the store does not answer, or knows no conditional writes.
    """
    lock = _StoreLock(work)
    lock.take()
    _HELD[str(work)] = lock
    try:
        yield
    finally:
        del _HELD[str(work)]
        lock.release()


def check_held(work: Path) -> None:
    """Refuse to go on if another build has taken over a work folder in a store; does nothing for other folders.

    Raises:
        BuildError: it has.
    """
    if isinstance(work, StorePath):
        _HELD[str(work)].check()


class _StoreLock:
    def __init__(self, work: StorePath):
        self.work, self.token = work, secrets.token_hex(16)
        self.number = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="lamp-store-lock", daemon=True)

    def take(self) -> None:
        self._check_conditions()
        while True:
            last = max(self._numbers(), default=0)
            if last:
                self._check_dead(last)
            if self._path(last + 1).put_if_absent(self._said()):
                self.number = last + 1
                break
        _LIVING.add(self.token)
        for number in self._numbers():
            if number < self.number:
                self._path(number).unlink()
        self._thread.start()

    def _check_conditions(self) -> None:
        """Refuse a server that does not heed the condition, and would let two builds through without a word."""
        probe = self.work / f"probe-{self.token}"
        heeded = probe.put_if_absent(b"1") and not probe.put_if_absent(b"2")
        probe.unlink()  # not where the store failed: removing would fail too, and hide what happened
        if not heeded:
            raise BuildError(
                f"the store of {self.work.parent} ignores conditional writes (If-None-Match), which keep two builds "
                "apart: build into a folder of this machine, and bring the result there with another tool"
            )

    def check(self) -> None:
        if max(self._numbers(), default=0) != self.number or self._holder(self.number).get("token") != self.token:
            raise BuildError(
                f"another build has taken over {self.work.parent} while this one gave no sign of life; run this one "
                "again when that has ended"
            )

    def release(self) -> None:
        _LIVING.discard(self.token)
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(StoreFailed, BuildError):
            self.check()
            self._path(self.number).unlink()

    def _live(self) -> None:
        while not self._ended.wait(BEAT_S):
            try:
                self.check()
                self._path(self.number).put(self._said())
            except BuildError:
                return
            except StoreFailed as error:
                _LOG.debug("no sign of life: %s", error)

    def _numbers(self) -> list[int]:
        found = (LOCK.fullmatch(path.name) for path in self.work.iterdir())
        return [int(match[1]) for match in found if match]

    def _path(self, number: int) -> StorePath:
        return self.work / f"lock-{number:06d}"

    def _said(self) -> bytes:
        return canonical_json(
            {"token": self.token, "host": _host(), "process": os.getpid(), "started": _started(os.getpid())}
        )

    def _holder(self, number: int) -> dict[str, Any]:
        try:
            return json.loads(self._path(number).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}

    def _check_dead(self, number: int) -> None:
        """Refuse while the holder lives: its process on this machine, or its last sign of life by the store's clock."""
        holder = self._holder(number)
        if holder.get("host") == _host():
            process, own = int(holder.get("process", 0)), os.getpid()
            if holder.get("started") != _started(process) or (process == own and holder["token"] not in _LIVING):
                return
            raise BuildError(
                f"another build, process {process}, is writing into {self.work.parent}; wait for it or "
                "choose another --output"
            )
        quiet = self._quiet_s(number)
        if quiet is not None and quiet < DEAD_S:
            raise BuildError(
                f"another build, on {holder.get('host', 'another machine')}, is writing into {self.work.parent}: its "
                f"last sign of life is {quiet:.0f} s old; wait for it or choose another --output; if it was killed, "
                f"run this again in {DEAD_S - quiet:.0f} s"
            )

    def _quiet_s(self, number: int) -> float | None:
        """Seconds since the holder's last sign of life, by the store's own clock."""
        probe = self.work / f"clock-{self.token}"
        probe.put(b"")
        try:
            return (probe.entry().modified_ns - self._path(number).entry().modified_ns) / 1e9
        except FileNotFoundError:
            return None
        finally:
            probe.unlink()


def _host() -> str:
    """This machine since its last start, or this container: where numbers of processes mean the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {secrets.token_hex(8)}"


def _started(process: int) -> str | None:
    """When a process of this machine was started, in the system's ticks; None if there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
