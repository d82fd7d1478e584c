"""Defers signals that ask the program to end until it can end safely.

A Ctrl-C that raises in the middle of Ray's start or stop leaves Ray's native code in a state in which it crashes (exit
code 139) or leaves processes behind. So while Ray is in use a signal is only recorded, and handled at chosen places.
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
"""A signal within this time after the first is the same request: a terminal and a wrapper often both send it."""


class HeldSignals:
    """The signal received since ``install``. A second request ends the process at once."""

    def __init__(self) -> None:
        self.noted: int | None = None
        self.noted_at = 0.0
        self.before: dict[int, Any] = {}

    def install(self) -> None:
        """Hold signals from now on, also if a library has replaced the handlers; ignored signals stay ignored."""
        if not _in_main_thread():
            return  # signals are handled in the main thread only, and handlers can be set only there
        for number in ENDING:
            if number not in self.before:
                self.before[number] = signal.getsignal(number)
            if self.before[number] is not signal.SIG_IGN:
                signal.signal(number, self._note)
                signal.siginterrupt(number, False)  # native code may not expect its system calls to be interrupted

    def restore(self) -> None:
        """Set the previous handlers again."""
        if _in_main_thread():
            for number, handler in self.before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Handle a received signal: call the previous handler.

        Raises:
            KeyboardInterrupt: or whatever that handler raises; ``SystemExit`` if there was none.
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
            # The signal may have interrupted a print, which cannot be entered again; os.write can.
            os.write(2, b"\nending in an orderly way, which takes some seconds; a second Ctrl-C ends at once\n")


@contextlib.contextmanager
def held_signals() -> Iterator[HeldSignals]:
    """Hold signals within the block; a signal that was not handled in it is handled at its end."""
    held = HeldSignals()
    held.install()
    try:
        yield held
    finally:
        held.restore()
        held.check()


def without_signals(function: Callable[[], None]) -> Callable[[], None]:
    """Wrap a function so that no signal interrupts it: for cleanup that stops other processes when this one ends."""

    def run() -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        function()

    return run


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
