"""``lamp-train merge``: write a run that trained its backbone as one with a whole backbone and no adapters."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.torch_env import let_threads_sleep, quieten


@dataclass(frozen=True)
class Merge:
    """Write a finished run of either stage that trained adapters, or all of its backbone, as a run with a whole
    backbone.

    Adapters are added to the weights beside which they stand. The merged run is used like any other: as --motion of
    stage 2, by load_policy, and by lamp-train export, which knows no adapters.
    """

    run: tyro.conf.Positional[Path]
    """Folder of the run, e.g. runs/stage2."""
    output: Path
    """Folder to write."""


def merge_command(args: Merge) -> int:
    """Merge the run and report the result; returns the exit code."""
    let_threads_sleep()
    from lamp_model.errors import BadCheckpoint, BadRun
    from lamp_model.storage.merging import merge_run
    from schemas.plugins import MissingDependency

    quieten()
    try:
        merged = merge_run(args.run, args.output)
    except BadRun as error:
        raise UsageError(str(error)) from error
    except (BadCheckpoint, MissingDependency) as error:
        raise Failed(str(error)) from error
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise Failed(f"{error.strerror or error}{where}; nothing was written to {args.output}") from error
    weights = "averaged weights" if merged.merged["averaged"] else "weights of the last step"
    print(f"{args.output}: written, with the {weights}; backbone/ holds the whole backbone in the precision it came in")
    return 0
