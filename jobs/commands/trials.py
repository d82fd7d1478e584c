"""``lamp-policy trials``: keep the trials of a real robot, and report progress."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from jobs.cli.exit_codes import UsageError
from jobs.cli.help_text import optional_in_words

if TYPE_CHECKING:
    from lamp_model.closed_loop.trials import TrialFolder


@dataclass(frozen=True)
@optional_in_words
class Trials:
    """Keep trials on a real robot as the paper does: the stages that each trial reached, by condition.

    Asks for one trial after the other and keeps each at once; given again, it goes on with what is missing.
    """

    task: tyro.conf.Positional[Path]
    """File of the task: its stages in order, and the number of trials by condition (docs/real-robot.md)."""
    policy: str = ""
    """Name of the policy that is tried; none: only report."""
    output: Path | None = None
    """Folder of the trials. [default: trials/<name of the file>]"""
    add: str | None = None
    """Add one trial of this condition without asking."""
    reached: int | None = None
    """Number of stages that the trial of --add reached."""
    note: str = ""
    """A remark on the trial of --add."""
    csv: bool = False
    """Print a row for each trial."""
    json: bool = False
    """Print JSON."""


def trials_command(args: Trials) -> int:
    """Ask for trials, or add one, and print progress."""
    from lamp_model.closed_loop.trials import BadTrials, TrialFolder, read_task

    try:
        folder = TrialFolder(args.output or Path("trials") / args.task.stem, read_task(args.task))
        if args.add is not None:
            if not args.policy or args.reached is None:
                raise UsageError("--add needs --policy and --reached: whose trial is it, and how far did it come?")
            folder.add(args.policy, args.add, args.reached, args.note)
        elif args.policy:
            _ask(folder, args.policy)
    except (BadTrials, ValueError) as error:
        raise UsageError(str(error)) from error
    _report(args, folder)
    return 0


def _ask(folder: "TrialFolder", policy: str) -> None:
    """Ask for each missing trial; an empty line or the end of the input stops."""
    stages = folder.task.stages
    print(f"{folder.task.task}: {folder.task.instruction!r}; how many stages were reached? Enter alone stops.")
    for number, stage in enumerate(stages, 1):
        print(f"  {number} {stage}")
    for condition, number in folder.missing(policy):
        while True:
            print(f"{condition}, trial {number}: ", end="", flush=True)
            line = sys.stdin.readline()
            if not line.strip():
                return
            reached, _, note = line.strip().partition(" ")
            if reached.isdigit() and int(reached) <= len(stages):
                folder.add(policy, condition, int(reached), note.strip())
                break
            print(f"  a number from 0 to {len(stages)}, and a remark after a space if there is one")


def _report(args: Trials, folder: "TrialFolder") -> None:
    from lamp_model.closed_loop.trials import as_text

    progress = folder.progress()
    if args.csv:
        print(folder.as_csv(), end="")
    elif args.json:
        print(json.dumps({"task": asdict(folder.task), "progress": [asdict(one) for one in progress]}, indent=1))
    else:
        print(as_text(folder.task, progress))
