"""Being told to stop from outside, as by a scheduler that ends a job."""

from dataclasses import dataclass


class Stopped(Exception):
    """Training stopped because it was asked to.

    Attributes:
        saved: the step of the checkpoint that was written; None where no step was done.
    """

    def __init__(self, saved: int | None):
        super().__init__(f"stopped at step {saved}" if saved else "stopped before the first step")
        self.saved = saved


@dataclass
class StopRequest:
    """Set by whoever is told to stop, read by the trainer between two steps.

    Attributes:
        asked: stop as soon as the state is whole.
        heeded: the trainer is running and looks; before and after, whoever asks ends the process.
    """

    asked: bool = False
    heeded: bool = False
