"""``--profile N``: a trace of N steps, which chrome://tracing, Perfetto and TensorBoard show."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from schemas.files import written_whole

FOLDER = "profile"
WARM_UP = 2
"""Steps before the trace: the first allocate memory and choose kernels."""


@contextmanager
def profiled(steps: int, folder: Path, device: torch.device) -> Iterator[Callable[[], None]]:
    """Trace so many steps into ``profile/steps-N.json`` of a run's folder; 0: none. Yields a function to call after
    each step.
    """
    if not steps:
        yield lambda: None
        return
    path = folder / FOLDER / f"steps-{steps}.json"

    def write(trace: profile) -> None:
        path.parent.mkdir(exist_ok=True)
        with written_whole(path) as file:
            trace.export_chrome_trace(file.name)
        count = "1 step is" if steps == 1 else f"{steps} steps are"
        print(f"profile: {count} in {path}; open it with https://ui.perfetto.dev or chrome://tracing")

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    plan = schedule(wait=0, warmup=WARM_UP, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write, profile_memory=True) as trace:
        yield trace.step
