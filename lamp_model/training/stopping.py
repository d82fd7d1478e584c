"""Requests to stop training from outside, for example by a scheduler that ends a job."""

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
    """Set by a signal handler or another caller, read by the trainer between two steps.

    Attributes:
        asked: stop after the current step.
        heeded: the trainer is running and checks ``asked``; before and after that, the caller must end the process.
    """

    asked: bool = False
    heeded: bool = False
