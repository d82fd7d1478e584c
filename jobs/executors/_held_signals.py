"""Signals that ask a program to end, held back until it stands where it can end.

A Ctrl-C that raises in the middle of Ray's start or stop leaves Ray's native half in a state in which it crashes (exit
code 139) or leaves processes behind. So while Ray is in use a signal is only noted, and acted upon at chosen places.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_AFTER_S = 1.0
"""A signal sooner after the first is the same request: a terminal and a wrapper often both pass it on."""


class HeldSignals:
    """What has come since ``install``. A second request ends the process at once."""

    def __init__(self) -> None:
        self.noted: int | None = None
        self.noted_at = 0.0
        self.before: dict[int, Any] = {}

    def install(self) -> None:
        """Hold signals from here on, also when a library has taken them over meanwhile; ignored ones stay ignored."""
        if not _in_main_thread():
            return  # signals arrive in the main thread only, and only there can handlers be set
        for number in ENDING:
            if number not in self.before:
                self.before[number] = signal.getsignal(number)
            if self.before[number] is not signal.SIG_IGN:
                signal.signal(number, self._note)
                signal.siginterrupt(number, False)  # native code may not expect that its system calls are cut short

    def restore(self) -> None:
        """The handlers that were there before."""
        if _in_main_thread():
            for number, handler in self.before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Act on what has come: call the handler that was there before.

        Raises:
            KeyboardInterrupt: or whatever that handler raises; ``SystemExit`` where there was none.
        """
        if self.noted is None:
            return
        number, self.noted = self.noted, None
        if callable(handler := self.before[number]):
            handler(number, None)
        else:
            raise SystemExit(128 + number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.noted_at and now - self.noted_at > AGAIN_AFTER_S:
            os._exit(128 + number)
        if not self.noted_at:
            self.noted, self.noted_at = number, now
            # Printing may be what the signal came into; a write is not.
            os.write(2, b"\nending in an orderly way, which takes some seconds; a second Ctrl-C ends at once\n")


@contextlib.contextmanager
def held_signals() -> Iterator[HeldSignals]:
    """Hold signals within the block; what has come and was not acted upon is acted upon at its end."""
    held = HeldSignals()
    held.install()
    try:
        yield held
    finally:
        held.restore()
        held.check()


def without_signals(function: Callable[[], None]) -> Callable[[], None]:
    """The function, run to its end whatever signal comes: for what stops other processes when this one ends."""

    def run() -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        function()

    return run


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
