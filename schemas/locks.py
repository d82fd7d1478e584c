"""Lock files, so that only one process works in a folder, or changes a file, at a time."""

import contextlib
import fcntl
import os
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


def lock_file(path: Path, kind: int) -> int:
    """An open lock file that holds the lock until it is closed; the system closes it when the process ends.

    Args:
        kind: ``fcntl.LOCK_SH`` or ``fcntl.LOCK_EX``, with ``fcntl.LOCK_NB`` not to wait.

    Raises:
        BlockingIOError: another process holds it, and waiting was not asked for.
    """
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(file, kind)
    except BaseException:
        os.close(file)
        raise
    return file


@contextlib.contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    """Hold a lock file during the block; see ``lock_file``."""
    file = lock_file(path, kind)
    try:
        yield
    finally:
        os.close(file)
