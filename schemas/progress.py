"""Progress on standard error: a bar on a terminal, and a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from schemas.durations import duration

EVERY_S = 10.0
"""Seconds from one plain line to the next."""

_shown = True


@runtime_checkable
class Progress(Protocol):
    """A progress display."""

    def update(self, n: int = 1) -> Any:
        """Count ``n`` more items as done."""
        ...

    def set_postfix_str(self, s: str) -> Any:
        """Show a text after the count."""
        ...

    def close(self) -> Any:
        """Show the final state."""
        ...


def show_progress(shown: bool) -> None:
    """Turn progress in this process on or off (``--quiet``)."""
    global _shown
    _shown = shown


def progress_is_shown() -> bool:
    """Whether this process shows progress and messages about waiting."""
    return _shown


def open_progress(title: str, total: int, unit: str, done: int = 0) -> Progress:
    """Open a progress display of ``total`` items, of which ``done`` are done already."""
    if not _shown:
        return _Silent()
    if not sys.stderr.isatty():
        return PlainProgress(title, total, done)
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc=title, unit=unit, mininterval=0.1, dynamic_ncols=True)


class PlainProgress:
    """Lines such as ``episodes: 12 of 200, 1.5/s, 2 min left``; the last one is always printed.

    Args:
        done: items that were done before; the rate does not include them.
        every: seconds from one line to the next.
        clock: returns a time in seconds.
        say: called with each line.
    """

    def __init__(
        self,
        title: str,
        total: int,
        done: int = 0,
        every: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] | None = None,
    ):
        self.title, self.total, self.before, self.done = title, total, done, done
        self.every, self.clock, self.say = every, clock, say or _to_standard_error
        self.began = self.last = clock()
        self.postfix = ""

    def update(self, n: int = 1) -> None:
        """Count ``n`` more items as done; a line is due every ``every`` seconds."""
        self.done += n
        if self.clock() - self.last >= self.every and self.done < self.total:
            self.last = self.clock()
            self._line(left=True)

    def set_postfix_str(self, s: str) -> None:
        """Show a text after the count."""
        self.postfix = s

    def close(self) -> None:
        """Show the final state."""
        self._line(left=False)

    def _line(self, left: bool) -> None:
        seconds = self.clock() - self.began
        rate = (self.done - self.before) / max(seconds, 1e-9)
        words = [f"{self.title}: {self.done} of {self.total}"]
        if left and rate > 0:
            words += [f"{rate:.3g}/s", f"{duration((self.total - self.done) / rate)} left"]
        elif not left:
            words.append(f"in {duration(seconds)}")
        self.say(", ".join([*words, *([self.postfix] if self.postfix else [])]))


class _Silent:
    def update(self, n: int = 1) -> None:
        pass

    def set_postfix_str(self, s: str) -> None:
        pass

    def close(self) -> None:
        pass


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
