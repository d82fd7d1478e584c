"""``lamp-train``: train stage 1 (the Motion Expert) or stage 2 (the policy that it guides) from shards."""

import sys

import tyro

from jobs.cli.exit_codes import run_command
from jobs.cli.train_options import Train
from jobs.commands.export import Export, export_command
from jobs.commands.train import train_command


def main() -> None:
    """Entry point of ``lamp-train``."""
    sys.exit(run_command(_run))


def _run() -> int:
    quick = (tyro.conf.FlagCreatePairsOff,)
    if sys.argv[1:2] == ["export"]:  # training is what the command is for, and needs no word
        return export_command(tyro.cli(Export, prog="lamp-train export", args=sys.argv[2:], config=quick))
    return train_command(tyro.cli(Train, prog="lamp-train", config=quick))


if __name__ == "__main__":
    main()
