"""Weights & Biases. Its own environment variables apply (``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_MODE``, ...).

Without a key it works offline: the run lies in ``wandb/`` of the run's folder, and ``wandb sync`` sends it later.
"""

import hashlib
import os
from collections.abc import Mapping

from lamp_model.training.tracking import TrackedRun

PACKAGE, PROJECT = "wandb", "lamp"


class WandB:
    """Sends the numbers to a run whose id follows from the folder, so that a resumed run goes on in it."""

    def __init__(self, run: TrackedRun):
        import wandb

        mode = os.environ.get("WANDB_MODE") or ("online" if wandb.Settings().api_key or _key_in_netrc() else "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=hashlib.sha256(str(run.folder.resolve()).encode()).hexdigest()[:16],
            resume="allow",
            config=dict(run.config),
            dir=str(run.folder),
            mode=mode,
        )
        # A resumed run may repeat steps, which wandb's own counter does not take; curves are drawn over this one.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker``."""
        self._run.log({**values, "step": step})

    def close(self) -> None:
        """See ``Tracker``."""
        self._run.finish()


def _key_in_netrc() -> bool:
    from netrc import NetrcParseError, netrc

    try:
        return netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False


def open_tracker(run: TrackedRun) -> WandB:
    """Open the tracker."""
    return WandB(run)
