"""How a run is shown while it trains: trackers, a profile, and the share of the device's arithmetic that it uses."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lamp_model.model import MotionModel
from lamp_model.training.clock import StepClock
from lamp_model.training.distributed.replicas import whole_tensor
from lamp_model.training.metrics import MetricsLog
from lamp_model.training.profiling import profiled
from lamp_model.training.tracking import TrackedRun, trackers


@dataclass(frozen=True)
class Watch:
    """What is wanted; it decides nothing about the result.

    Attributes:
        track: names of trackers.
        profile: steps to trace; 0: none.
        config: of the run, for trackers.
        flops: of a sample's forward and backward pass (``lamp_model.training.flops``); None: they are not known.
        peak: of a device in FLOP/s; None: there is none to compare with, as on a CPU.
    """

    track: tuple[str, ...] = ()
    profile: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    flops: float | None = None
    peak: float | None = None

    def mfu(self, rate: float, devices: int) -> float | None:
        """The model FLOPs utilisation, 0..1: what the model needs of what the devices could do.

        Args:
            rate: samples a second of all devices.
        """
        return None if self.flops is None or self.peak is None else rate * self.flops / (self.peak * devices)


UNWATCHED = Watch()


def gate_of(model: MotionModel) -> float | None:
    """How open the gate of the Motion Guidance is, 0..1; None in stage 1 and where a fusion has no gate."""
    measured = getattr(getattr(model, "motion_guidance", None), "mean_gate", None)
    return None if measured is None else float(whole_tensor(measured().detach()))


@contextmanager
def shown(watch: Watch, folder: Path, device: torch.device, log: MetricsLog | None) -> Iterator[Callable[[], None]]:
    """Open the trackers and the profiler; yields a function to call after each step.

    Args:
        log: of rank 0, which alone shows the run; None on the others.
    """
    if log is None:
        yield lambda: None
        return
    run = TrackedRun(folder, watch.config, log.done)
    with trackers(watch.track, run) as log.trackers, profiled(watch.profile, folder, device) as after_step:
        yield after_step


def figures(watch: Watch, clock: StepClock, model: MotionModel, rate: float, devices: int) -> dict[str, float]:
    """What a line of the log says beside the loss: shares of the time, memory, MFU and the gate.

    Args:
        rate: samples a second of all devices.
    """
    utilisation, gate = watch.mfu(rate, devices), gate_of(model)
    found = {**clock.shares(), "memory_gb": clock.memory_gb()}
    if utilisation is not None:
        found["mfu"] = round(utilisation, 4)
    if gate is not None:
        found["gate"] = gate
    return found
