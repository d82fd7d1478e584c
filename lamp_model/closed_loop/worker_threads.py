"""Threads that drive simulators, one each."""

from collections.abc import Callable, Sequence
from threading import Thread


def run_all(threads: Sequence[Thread], halt: Callable[[BaseException], None]) -> None:
    """Start the threads and wait for all of them; after Ctrl-C, or another exception here, ``halt`` is to end them."""
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # so that Ctrl-C is heard
    except BaseException as interrupt:
        halt(interrupt)
        for thread in threads:
            thread.join(10)
        raise
