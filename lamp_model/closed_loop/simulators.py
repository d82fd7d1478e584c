"""Finds a Python in which the simulator is installed."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from lamp_model.closed_loop.benchmarks import Suite

VARIABLE = "LAMP_SIMULATOR_PYTHON"
DEFAULT = Path(".venv-sim")
"""Where ``make sim`` makes the environment."""
NEEDS = {"libero": "libero", "libero_plus": "libero", "simpler_widowx": "simpler_env", "robosuite": "robosuite"}
"""The package that a benchmark's simulator is."""
RUNTIMES = ("docker", "ch-run")


class NoSimulator(RuntimeError):
    """No simulator is at hand; the message says how to get one."""


def find_python(said: Path | None, suite: Suite) -> Path | None:
    """The Python for a suite: the one that was said, ``$LAMP_SIMULATOR_PYTHON``, ``.venv-sim`` of ``make sim`` for
    LIBERO and robosuite, or this process's own where it has the package; None where there is none.

    Raises:
        ValueError: the one that was said is not there.
    """
    for name, given in (("--simulator-python", said), (f"${VARIABLE}", os.environ.get(VARIABLE))):
        if given:
            path = Path(os.path.abspath(given))  # not resolved: a link decides the environment
            if not os.access(path, os.X_OK) or path.is_dir():
                raise ValueError(f"{name} must be a Python, for example .venv-sim/bin/python; found {given}")
            return path
    kind = suite.group.partition(":")[0]
    made = Path(os.path.abspath(DEFAULT)) / "bin" / "python"
    if kind in ("libero", "robosuite") and made.exists():
        return made
    package = NEEDS.get(kind)
    if package is None or importlib.util.find_spec(package) is not None:
        return Path(sys.executable)
    return None


def container_runtime() -> str | None:
    """The program with which vla-eval starts containers, if there is one."""
    return next((name for name in RUNTIMES if shutil.which(name)), None)


def how_to_get(suite: Suite, runtime: str | None = None) -> str:
    """A sentence with what makes the simulator of a suite available; ``runtime`` starts containers here."""
    kind = suite.group.partition(":")[0]
    if kind in ("libero", "robosuite"):
        return (
            f"no simulator for {suite.name} is installed: make one with `lamp-policy simulator .venv-sim` (400 MB of "
            "packages, 357 MB of assets), or name its Python with --simulator-python"
            + (f"; or let {runtime} run it in a container with --container" if runtime else "")
        )
    how = f"which {runtime} runs with" if runtime else "for which Docker or Charliecloud must be installed, then give"
    return (
        f"{suite.name} runs in the container that vla-eval pins ({suite.image}), {how} --container; "
        f"or name a Python that has {NEEDS.get(kind, 'it')} with --simulator-python"
    )
