"""TensorBoard: event files in ``tensorboard/`` of the run's folder; ``tensorboard --logdir runs`` shows them."""

import json
from collections.abc import Mapping

from lamp_model.training.tracking import TrackedRun

PACKAGE = "tensorboard"


class TensorBoard:
    """Writes event files with torch's writer."""

    def __init__(self, run: TrackedRun):
        from torch.utils.tensorboard import SummaryWriter

        # What a resumed run repeats is hidden from the step on where it begins.
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.done + 1 if run.done else None)
        if not run.done:
            self._writer.add_text("config", f"```json\n{json.dumps(run.config, indent=1)}\n```", 0)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker``. Every line is flushed, so that it can be followed."""
        for name, value in values.items():
            self._writer.add_scalar(_grouped(name), value, step)
        self._writer.flush()

    def close(self) -> None:
        """See ``Tracker``."""
        self._writer.close()


def _grouped(name: str) -> str:
    """TensorBoard groups curves by what stands before a slash."""
    for group in ("share", "gradient_norm"):
        if name.startswith(f"{group}_"):
            return f"{group}/{name.removeprefix(f'{group}_')}"
    return name


def open_tracker(run: TrackedRun) -> TensorBoard:
    """Open the tracker."""
    return TensorBoard(run)
