"""``lamp-data``: build shards of triplets from robot episodes, and inspect them."""

import sys
from typing import Annotated, Any

import tyro

from jobs.cli.build_options import Build
from jobs.cli.command_line import COMMON_HELP, check_choices, check_paths, check_subcommand, in_groups, start, ungrouped
from jobs.cli.exit_codes import only_reads, run_command
from jobs.commands.build import build_command
from jobs.commands.collect import Collect, collect_command
from jobs.commands.copy import Copy, copy_command
from jobs.commands.evaluate import Evaluate, evaluate_command
from jobs.commands.inspect import Inspect, inspect_command
from jobs.commands.instruct import Instruct, instruct_command
from jobs.commands.parts import Parts, parts_command
from jobs.commands.push import Push, push_command
from jobs.commands.status import Status, status_command

OPTIONS = {
    "build": in_groups(Build),
    "status": Status,
    "inspect": Inspect,
    "copy": Copy,
    "push": Push,
    "evaluate": Evaluate,
    "instruct": Instruct,
    "collect": Collect,
    "parts": Parts,
}
HANDLERS: dict[type, Any] = {
    Collect: collect_command,
    Build: build_command,
    Inspect: only_reads(inspect_command),
    Evaluate: evaluate_command,
    Instruct: instruct_command,
    Parts: parts_command,
    Status: only_reads(status_command),
    Copy: copy_command,
    Push: push_command,
}
DESCRIPTION = (
    "Robot episodes to shards of (observation, instruction, dense 3D scene flow), a look at them, and how true they "
    f"are.\n\n{COMMON_HELP}"
)


def main() -> None:
    """Entry point of ``lamp-data``."""
    sys.exit(run_command(_run))


def _run() -> int:
    words = start("lamp-data", sys.argv[1:])
    if words is None:
        return 0
    check_subcommand(words, list(OPTIONS))
    if words and words[0] in OPTIONS:
        check_choices(OPTIONS[words[0]], words[1:])
    command: Any = None
    for name, options in OPTIONS.items():
        one = Annotated[options, tyro.conf.subcommand(name)]
        command = one if command is None else command | one
    args = ungrouped(tyro.cli(command, prog="lamp-data", description=DESCRIPTION, args=words))
    check_paths(args)
    return HANDLERS[type(args)](args)


if __name__ == "__main__":
    main()
