"""Does the motion prior help? The whole experiment, from nothing, in LIBERO's simulator (docs/evidence.md).

    python benchmarks/prior.py [--output evidence] [--quick] [--seeds 0 1 2] [--demos 5 20] [--arms motion none ...]
        [--only PART ...] [--dry-run]

Collects scripted demonstrations, builds flow and actions, trains the Motion Expert (stage 1), then policies with and
without it from the same backbone, at the same steps, samples and order of data; measures their error on demonstrations
that nobody trained on, lets them act from fixed initial states, and writes ``results.json``, ``results.md`` and
``results.png``. Every command is what a person would type, and is printed. What is done is left out when the same
command is given again, and what was interrupted goes on. ``--dry-run`` prints the commands only.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from machine import at_least_one, describe
from prior_plan import FURTHER, KINDS, MAIN, Experiment, Step, steps_of
from prior_report import write_report

from schemas.files import write_whole

QUICK = {
    "demos": (2,),
    "judged": 1,
    "seeds": (0,),
    "tasks": (0,),
    "episodes": 2,
    "stage1_steps": 60,
    "stage2_steps": 60,
}
"""What ``--quick`` changes: a few minutes, to see that all of it runs. It shows nothing of the prior."""


class OtherCommand(ValueError):
    """A step was done by another command than now asked for."""


def is_done(step: Step, notes: Path) -> bool:
    """Whether a step was finished by this command.

    Raises:
        OtherCommand: it was finished by another one, whose result the same folder cannot hold.
    """
    note = notes / f"{step.name}.json"
    if not note.exists():
        return False
    before = json.loads(note.read_bytes())
    if not before["done"] or before["command"] == list(step.command):
        return before["done"]
    if step.grows:
        return False
    raise OtherCommand(
        f"{step.name} was done by another command ({shlex.join(before['command'])}, now {shlex.join(step.command)}): "
        f"give another --output, or remove what it made and {note}"
    )


def run(step: Step, notes: Path) -> None:
    """Run a step's command, and note what it took.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    again = step.again is not None and step.begun is not None and step.begun.exists()
    words = step.again if again and step.again is not None else step.command
    print(f"\n$ {shlex.join(words)}", flush=True)
    note, began = notes / f"{step.name}.json", time.time()
    spent = json.loads(note.read_bytes())["seconds"] if note.exists() else 0.0
    where = Path(sys.executable).parent / words[0]
    kept: str | None = None
    done = False
    try:
        ended = subprocess.run([str(where), *words[1:]], check=True, stdout=subprocess.PIPE if step.keep else None)
        kept = ended.stdout.decode() if step.keep else None
        done = True
    finally:
        seconds = round(spent + time.time() - began, 1)
        record = {"command": list(step.command), "done": done, "seconds": seconds, "machine": describe()}
        if kept is not None and step.keep is not None:
            print(kept, flush=True)
            write_whole(step.keep, kept.encode())
        write_whole(note, json.dumps(record, indent=1).encode() + b"\n")


def experiment_of(args: argparse.Namespace) -> Experiment:
    """What the command line asks for."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    fields = {name: given[name] for name in Experiment.__dataclass_fields__ if name in given}
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(value)
    return replace(Experiment(args.output, **(QUICK if args.quick else {})), **fields)


def chosen(steps: list[Step], only: Sequence[str] | None) -> list[Step]:
    """The steps of these kinds or names; None: all.

    Raises:
        ValueError: there is none of a kind or a name.
    """
    if only is None:
        return steps
    known = {*KINDS, *(step.name for step in steps)}
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"there is no part {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return [step for step in steps if step.kind in only or step.name in only]


def main() -> int:
    """Run what is missing, then report on what there is."""
    args = _arguments()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        of = experiment_of(args)
        steps = chosen(list(steps_of(of)), args.only)
    except ValueError as error:
        print(f"prior.py: {error}", file=sys.stderr)
        return 2
    if args.dry_run:
        for step in steps:
            print(shlex.join(step.command))
        return 0
    notes = of.folder / "steps"
    notes.mkdir(parents=True, exist_ok=True)
    try:
        for step in steps:
            if not is_done(step, notes):
                run(step, notes)
    except OtherCommand as error:
        print(f"prior.py: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"prior.py: a step failed with exit {error.returncode}; given again, this command goes on from it",
              file=sys.stderr)  # fmt: skip
        return 1
    print(f"\n{write_report(of)}")
    return 0


def _simulator() -> Path | None:
    """The simulator's Python, as lamp-policy evaluate finds it."""
    places = os.environ.get("LAMP_SIMULATOR_PYTHON"), ".venv-sim/bin/python"
    return next((Path(place) for place in places if place and Path(place).exists()), None)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", type=Path, default=Path("evidence"))
    add("--quick", action="store_true", help="a few minutes, to see that all of it runs")
    add("--only", nargs="+", metavar="PART", help=f"only these: {', '.join(KINDS)}, or steps by name")
    add("--dry-run", action="store_true", help="print the commands only")
    add("--suite", choices=("libero_object", "libero_spatial", "libero_goal"))
    add("--demonstrations", type=Path, help="these in place of collecting")
    add("--fresh", type=Path, help="with --demonstrations: judge on all of these")
    add("--flow-from", type=Path, help="stage 1 sees the flow of these, of more tasks, in place of that of the others")
    add("--demos", type=at_least_one, nargs="+", help="demonstrations a task with actions [5 20]")
    add("--flow-demos", type=at_least_one, help="so many more a task, not pushed, for stage 1 alone [0]")
    add("--judged", type=at_least_one, help="further ones that are collected to judge on [2]")
    add("--arms", nargs="+", choices=(*MAIN, *FURTHER), help="[motion none]")
    add("--seeds", type=int, nargs="+", help="of stage 2 [0 1 2]")
    add("--pushes", type=float, help="push the hand so often in 100 steps of those that are collected [0]")
    add("--vary", nargs="+", metavar="AXIS:STRENGTH", help="collect and act under these, such as layout:1 [none]")
    add("--tasks", type=int, nargs="+", help="to collect and to act on [all]")
    add("--first-episode", type=int, help="number of the first initial state to act from [0]")
    add("--episodes", type=at_least_one, help="initial states a task [10]")
    add("--execute", type=at_least_one, help="actions of a chunk carried out before the next look [all]")
    add("--videos", choices=("some", "all", "none"), help="films of episodes [some]")
    add("--stride", type=at_least_one, help="frames from one window of flow to the next [3]")
    add("--action-stride", type=at_least_one, help="frames from one sample of actions to the next [1]")
    add("--perturb", nargs="+", help="also act under these: camera:1 light:1 background:1 noise:1 layout:1 ...")
    add("--preset", choices=("laptop", "tiny", "small", "paper"), help="[laptop]")
    add("--stage1-steps", type=at_least_one)
    add("--stage2-steps", type=at_least_one)
    add("--stage1", type=shlex.split, metavar="WORDS", help="further options of stage 1, as one text in quotes")
    add("--stage2", type=shlex.split, metavar="WORDS", help="further options of stage 2, of all arms alike")
    add("--train-backbone", choices=("none", "full"), help="what stage 1 teaches of the backbone [none]")
    add("--simulator", type=Path, default=_simulator(), help="Python of the simulator's environment [%(default)s]")
    add("--threads", type=at_least_one, help="[1]")
    add("--parallel", type=at_least_one, help="simulators at the same time [1]")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
