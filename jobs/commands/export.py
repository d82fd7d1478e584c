"""``lamp-train export``: write a run in the layout of the authors' published checkpoints."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.torch_env import let_threads_sleep, quieten


@dataclass(frozen=True)
class Export:
    """Write a finished stage 2 run in the layout of the authors' published checkpoints.

    That is one .pt with all weights, config.yaml, dataset_statistics.json and checkpoint_manifest.json.
    """

    run: tyro.conf.Positional[Path]
    """Folder of the run, e.g. runs/stage2."""
    output: Path
    """Folder to write."""


def export_command(args: Export) -> int:
    """Export the run and report the result; returns the exit code."""
    let_threads_sleep()
    from lamp_model.errors import BadCheckpoint, BadRun
    from lamp_model.published.export import differences, export_policy
    from lamp_model.storage.run_folder import read_config
    from schemas.plugins import MissingDependency

    quieten()
    try:
        export_policy(args.run, args.output)
    except BadRun as error:
        raise UsageError(str(error)) from error
    except (BadCheckpoint, MissingDependency) as error:
        raise Failed(str(error)) from error
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise Failed(f"{error.strerror or error}{where}; nothing was written to {args.output}") from error
    print(f"{args.output}: written; load_policy({str(args.output)!r}) acts exactly as the run does")
    for difference in differences(read_config(args.run).model):
        print(f"  the published code would differ: {difference}")
    return 0
