"""trackio: a local database, which ``trackio show`` serves. Its own environment variables apply (``TRACKIO_DIR``,
``TRACKIO_SPACE_ID``, ...); without them nothing leaves this machine.
"""

import os
from collections.abc import Mapping

from lamp_model.training.tracking import TrackedRun

PACKAGE, PROJECT = "trackio", "lamp"


class Trackio:
    """Logs to a run of the folder's name, in which a resumed run goes on."""

    def __init__(self, run: TrackedRun):
        import trackio

        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=run.name,
            config=dict(run.config),
            resume="allow" if run.done else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker``."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """See ``Tracker``."""
        self._run.finish()


def open_tracker(run: TrackedRun) -> Trackio:
    """Open the tracker."""
    return Trackio(run)
