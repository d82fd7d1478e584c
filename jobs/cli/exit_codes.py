"""What both commands do alike: exit codes, and errors as sentences."""

import _thread
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
INTERRUPTED = "interrupted; what was finished stays, and the same command goes on from there"


class UsageError(Exception):
    """The person asked for something that cannot be: exit code 2."""


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


def run_command(command: Callable[[], int]) -> int:
    """Run a command; its exit code. Errors that a person can mend are printed as one sentence, bugs keep their
    traceback.
    """
    before, sys.unraisablehook = sys.unraisablehook, _interrupt_again
    try:
        return command()
    except UsageError as error:
        return _say(str(error), 2)
    except Failed as error:
        return _say(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if _interrupted(error):
            return _say(INTERRUPTED, 130)
        if not isinstance(error, OSError):
            raise
        if error.filename is None and error.strerror is None:
            raise
        where = f": {error.filename}" if error.filename else ""
        return _say(
            f"{error.strerror or error}{where}; what was finished stays, and the same command goes on from there", 1
        )
    except KeyboardInterrupt:
        return _say(INTERRUPTED, 130)
    finally:
        sys.unraisablehook = before


def _interrupt_again(unraisable: Any) -> None:
    """A Ctrl-C that fell into a callback, where Python prints and forgets it, comes again a moment later."""
    if unraisable.exc_type is KeyboardInterrupt:
        threading.Timer(0.01, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def _interrupted(error: BaseException) -> bool:
    """Whether a library turned the person's Ctrl-C into an error of its own."""
    before = error.__cause__ or error.__context__
    return before is not None and (isinstance(before, KeyboardInterrupt) or _interrupted(before))


def _say(message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    return code
