"""``lamp-data``: build shards of triplets from robot episodes, and look at them."""

import sys
from typing import Annotated

import tyro

from jobs.cli.build_options import Build
from jobs.cli.exit_codes import run_command
from jobs.commands.build import build_command
from jobs.commands.evaluate import Evaluate, evaluate_command
from jobs.commands.inspect import Inspect, inspect_command
from jobs.commands.instruct import Instruct, instruct_command

Command = (
    Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Instruct, tyro.conf.subcommand("instruct")]
)


HANDLERS = {Build: build_command, Inspect: inspect_command, Evaluate: evaluate_command, Instruct: instruct_command}


def main() -> None:
    """Entry point of ``lamp-data``."""
    sys.exit(run_command(_run))


def _run() -> int:
    args = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="lamp-data",
        description=(
            "Robot episodes to shards of (observation, instruction, dense 3D scene flow), a look at them, and how "
            "true they are."
        ),
    )
    return HANDLERS[type(args)](args)


if __name__ == "__main__":
    main()
