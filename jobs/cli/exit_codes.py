"""What both commands do alike: exit codes, and errors as sentences."""

import _thread
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

from schemas.errors import StoreFailed
from schemas.optional import missing_package
from schemas.plugins import MissingDependency

T = TypeVar("T")
GOES_ON = "what was finished stays, and the same command goes on from there"


class UsageError(Exception):
    """The person asked for something that cannot be: exit code 2."""


class Terminated(KeyboardInterrupt):
    """Another program asked for an end (SIGTERM), or the terminal was closed (SIGHUP).

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Failed(Exception):
    """The work could not be done, or not all of it: exit code 1."""


def refusing(kind: type[T]) -> Any:
    """A config's type for the command line, where a value that the config refuses is a ``UsageError``: a ValueError
    would be shown in a box with internal names. What it makes are plain configs."""

    def make(_: type, *args: Any, **values: Any) -> T:
        try:
            return kind(*args, **values)
        except ValueError as error:
            raise UsageError(str(error)) from error

    return type(kind.__name__, (kind,), {"__new__": make})


def only_reads(command: Callable[[T], int]) -> Callable[[T], int]:
    """A command that writes nothing: a store's failure leaves nothing of which one could say that it goes on."""

    def run(args: T) -> int:
        try:
            return command(args)
        except StoreFailed as error:
            raise Failed(str(error)) from error

    return run


def run_command(command: Callable[[], int]) -> int:
    """Run a command; its exit code. Errors that a person can mend are printed as one sentence, bugs keep their
    traceback. A signal to end ends it as Ctrl-C does, with 128 and the signal's number as exit code.
    """
    before, sys.unraisablehook = sys.unraisablehook, _interrupt_again
    try:
        with _terminating():
            return command()
    except UsageError as error:
        return _say(str(error), 2)
    except (Failed, MissingDependency) as error:
        return _say(str(error), 1)
    except StoreFailed as error:
        return _say(f"{error}; {GOES_ON}", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if (interrupt := _interrupt_behind(error)) is not None:
            return _say_interrupted(interrupt)
        if isinstance(error, ModuleNotFoundError) and (missing := missing_package(error)) is not None:
            return _say(str(missing), 1)
        if not isinstance(error, OSError):
            raise
        if error.filename is None and error.strerror is None:
            raise
        where = f": {error.filename}" if error.filename else ""
        return _say(f"{error.strerror or error}{where}; {GOES_ON}", 1)
    except KeyboardInterrupt as interrupt:
        return _say_interrupted(interrupt)
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    """SIGTERM and SIGHUP raise ``Terminated``; where they are ignored, as under nohup, they stay so."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        wanted = (signal.SIGTERM, signal.SIGHUP)
        before = {n: handler for n in wanted if (handler := signal.getsignal(n)) is not signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, terminate)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt_again(unraisable: Any) -> None:
    """A signal to end that fell into a callback, where Python prints and forgets it, comes again a moment later."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    number = getattr(unraisable.exc_value, "number", signal.SIGINT)
    threading.Timer(0.01, _thread.interrupt_main, (number,)).start()


def _interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The person's Ctrl-C that a library turned into an error of its own, or None."""
    before = error.__cause__ or error.__context__
    if before is None or isinstance(before, KeyboardInterrupt):
        return before
    return _interrupt_behind(before)


def code_of(number: int) -> int:
    """The exit code of a process that a signal ended."""
    return 128 + number


def _say_interrupted(interrupt: KeyboardInterrupt) -> int:
    if isinstance(interrupt, Terminated):
        return _say(f"ended by {signal.Signals(interrupt.number).name}; {GOES_ON}", code_of(interrupt.number))
    return _say(f"interrupted; {GOES_ON}", code_of(signal.SIGINT))


def _say(message: str, code: int) -> int:
    sys.stdout.flush()
    if sys.exc_info()[0] is not None and logging.getLogger("jobs").isEnabledFor(logging.DEBUG):  # --verbose
        traceback.print_exc()
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    return code
