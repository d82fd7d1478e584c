"""A lock file, so that only one process works in a folder at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(lock: Path) -> Iterator[None]:
    """Hold a lock file, which is created if missing; the lock is released when the process ends, however it ends.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be created.
    """
    with open(lock, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
