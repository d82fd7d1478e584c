"""``lamp-train``: train stage 1 (the Motion Expert) or stage 2 (the policy that it guides) from shards."""

import sys

import tyro

from jobs.cli.command_line import check_choices, check_subcommand, help_of, start
from jobs.cli.exit_codes import run_command
from jobs.cli.train_options import Train
from jobs.commands.export import Export, export_command
from jobs.commands.merge import Merge, merge_command
from jobs.commands.train import train_command


def main() -> None:
    """Entry point of ``lamp-train``."""
    sys.exit(run_command(_run))


def _run() -> int:
    words = start("lamp-train", sys.argv[1:])
    if words is None:
        return 0
    if words[:1] == ["export"]:  # training is the default and has no subcommand
        return export_command(tyro.cli(Export, prog="lamp-train export", args=words[1:]))
    if words[:1] == ["merge"]:
        return merge_command(tyro.cli(Merge, prog="lamp-train merge", args=words[1:]))
    check_subcommand(words, ["export", "merge"])
    check_choices(Train, words)
    args = tyro.cli(Train, prog="lamp-train", args=words, description=help_of(Train))
    return train_command(args)


if __name__ == "__main__":
    main()
