"""A folder that one process works in at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(lock: Path) -> Iterator[None]:
    """Hold a lock file, which is made if it is not there; the lock goes with the process, however it ends.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be made.
    """
    with open(lock, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
