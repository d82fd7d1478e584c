"""``lamp-policy simulator``: make LIBERO's environment from the package index."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from jobs.cli.exit_codes import Failed
from jobs.cli.help_text import optional_in_words


@dataclass(frozen=True)
@optional_in_words
class SimulatorEnvironment:
    """Make an environment with LIBERO, its original assets and vla-eval, from the package index alone.

    It is found by lamp-policy evaluate as .venv-sim, or by --simulator-python DIR/bin/python. Rendering needs libegl1
    and libgl1-mesa-dri (--gl egl) or libosmesa6 (--gl osmesa) of the system. Interrupted and given again, it goes on.
    """

    folder: tyro.conf.Positional[Path] = Path(".venv-sim")
    """Folder to make."""
    assets: Path | None = None
    """A tar archive of LIBERO's assets, in place of the originals from the index (357 MB)."""
    constraints: Path | None = None
    """pip's constraints, for an environment that has others."""


def simulator_command(args: SimulatorEnvironment) -> int:
    """Make the environment and say how it is used."""
    from lamp_model.closed_loop.simulator_setup import SetupFailed, is_ready, python_of, set_up

    there = is_ready(args.folder)
    try:
        set_up(args.folder, args.assets, args.constraints)
    except SetupFailed as error:
        raise Failed(str(error)) from error
    print(f"{args.folder}: {'is there already' if there else 'made'}; use it with")
    python = python_of(args.folder)
    print(f"  lamp-policy evaluate RUN --benchmark libero_object --tasks 0 --episodes 2 --simulator-python {python}")
    return 0
