"""Where the time of training goes, and how much memory it takes."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PHASES: tuple[str, ...] = ("data", "forward", "backward", "step")


class StepClock:
    """Measures phases of steps. On a GPU work is queued and not waited for, so there the phases are timed by events on
    the device; only ``data``, the wait for the loader, is host time.
    """

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._began = time.perf_counter()
        self._spent = dict.fromkeys(PHASES, 0.0)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)

    @contextmanager
    def measured(self, phase: str) -> Iterator[None]:
        """Add the time within this to a phase."""
        if self._cuda and phase != "data":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            try:
                yield
            finally:
                end.record()
                self._events.append((phase, begin, end))
            return
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent[phase] += time.perf_counter() - began

    def shares(self) -> dict[str, float]:
        """Shares of the time since ``reset`` that the phases took: ``share_data`` and so on. The rest is validation,
        checkpoints and the log itself. On a GPU this waits for the device.
        """
        if self._events:
            torch.cuda.synchronize(self._device)
        spent = dict(self._spent)
        for phase, begin, end in self._events:
            spent[phase] += begin.elapsed_time(end) / 1000
        whole = max(time.perf_counter() - self._began, 1e-9)
        return {f"share_{phase}": round(seconds / whole, 4) for phase, seconds in spent.items()}

    def memory_gb(self) -> float:
        """GiB: on a GPU the most that was allocated since ``reset``, else the largest size of this process so far."""
        if self._cuda:
            return round(torch.cuda.max_memory_allocated(self._device) / 2**30, 3)
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)
