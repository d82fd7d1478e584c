"""How many episodes a worker that runs a model works on at once: the option ``at_once`` of both executors.

While the model runs for one episode, the worker reads and decodes another and encodes and writes a third. Each has a
thread from its beginning to its end, so that an error stays with its episode; the model takes one batch at a time
(``pipeline.vision.auto_batch``). Memory grows with the number: each holds at most a chunk of its frames
(``pipeline.episodes.chunks``). Bytes do not depend on it.
"""

WITH_GPU = 3
"""One that is read, one that the model runs for and one that is written."""


def check_at_once(number: int | None) -> None:
    """Refuse a number below 1.

    Raises:
        ValueError: it is.
    """
    if number is not None and number < 1:
        raise ValueError(f"at_once must be 1 or more, found {number}")


def tasks_at_once(asked: int | None, gpu: bool) -> int:
    """The number that was asked for; None for ``WITH_GPU`` where a worker has a GPU, and one on a CPU, which has
    nothing to do while it waits for itself.
    """
    return asked or (WITH_GPU if gpu else 1)
