"""Tries an operation of a store again, with growing pauses, before it becomes an error."""

import math
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from schemas.errors import StoreFailed, first_line

T = TypeVar("T")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0


def most_tries() -> int:
    """How often an operation is tried: ``LAMP_STORE_TRIES``, else 8, which takes about a minute.

    Raises:
        StoreFailed: the variable holds something else.
    """
    return int(_number("LAMP_STORE_TRIES", 8, int))


def timeout_s() -> float:
    """Seconds until a request that brings nothing is given up and tried again: ``LAMP_STORE_TIMEOUT``, else 60.

    Raises:
        StoreFailed: the variable holds something else.
    """
    return _number("LAMP_STORE_TIMEOUT", 60, float)


def _number(name: str, usual: float, kind: Callable[[str], float]) -> float:
    said = os.environ.get(name, "")
    try:
        number = kind(said) if said else usual
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        wanted = "a whole number" if kind is int else "a number"
        raise StoreFailed(f"the variable {name} must be {wanted} above 0, found {said!r}")
    return number


class Passing(Exception):
    """A failure that may pass: the operation is tried again."""


def trying(what: str, operation: Callable[[int], T]) -> T:
    """The result of an operation.

    Args:
        what: what is done, for the message: ``reading s3://bucket/name``.
        operation: gets the number of the try, from 0, and raises ``Passing`` where another may succeed.

    Raises:
        StoreFailed: every try failed.
    """
    tries = most_tries()
    for number in range(tries):
        try:
            return operation(number)
        except Passing as error:
            if number + 1 == tries:
                said = first_line(error.__cause__ or error, 300)
                raise StoreFailed(f"{what} failed {tries} times, the last time with: {said}") from error
            pause = min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S)
            time.sleep(pause * (0.5 + random.random() / 2))
    raise AssertionError("a try returns or raises")
