"""``lamp-policy``: let a trained policy act: serve it to robots and simulators, evaluate it, compare policies."""

import importlib
import sys
from typing import Annotated, Any

import tyro

from jobs.cli.command_line import COMMON_HELP, check_choices, check_paths, check_subcommand, help_of, start, ungrouped
from jobs.cli.exit_codes import run_command

COMMANDS = {
    "serve": ("jobs.commands.serve", "Serve", "serve_command"),
    "evaluate": ("jobs.commands.evaluate_policy", "EvaluatePolicy", "evaluate_policy_command"),
    "compare": ("jobs.commands.compare", "Compare", "compare_command"),
    "table": ("jobs.commands.table", "Table", "table_command"),
    "simulator": ("jobs.commands.simulator", "SimulatorEnvironment", "simulator_command"),
    "trials": ("jobs.commands.trials", "Trials", "trials_command"),
}
"""Each command's module, its options and the function that carries it out; the module is imported when it is used."""
DESCRIPTION = f"Let a trained policy act.\n\n{COMMON_HELP}"


def main() -> None:
    """Entry point of ``lamp-policy``."""
    sys.exit(run_command(_run))


def _run() -> int:
    words = start("lamp-policy", sys.argv[1:])
    if words is None:
        return 0
    check_subcommand(words, list(COMMANDS))
    args: Any
    if words and words[0] in COMMANDS:
        options, handler = load_command(words[0])
        check_choices(options, words[1:])
        args = tyro.cli(options, prog=f"lamp-policy {words[0]}", description=help_of(options), args=words[1:])
    else:  # help, a script for completion, or no command, which tyro refuses
        loaded = {name: load_command(name) for name in COMMANDS}
        command: Any = None
        for name, (options, _) in loaded.items():
            one = Annotated[options, tyro.conf.subcommand(name)]
            command = one if command is None else command | one
        args = tyro.cli(command, prog="lamp-policy", description=DESCRIPTION, args=words)
        handler = dict(loaded.values())[type(args)]
    args = ungrouped(args)
    check_paths(args)
    return handler(args)


def load_command(name: str) -> tuple[Any, Any]:
    """The options of a command, and the function that carries it out."""
    module, options, handler = COMMANDS[name]
    loaded = importlib.import_module(module)
    return getattr(loaded, options), getattr(loaded, handler)


if __name__ == "__main__":
    main()
