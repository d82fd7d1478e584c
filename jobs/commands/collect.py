"""``lamp-data collect``: make demonstrations in a simulator with scripted controllers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.help_text import optional_in_words

if TYPE_CHECKING:
    from lamp_model.closed_loop.child import Simulator
    from lamp_model.closed_loop.collecting import TaskProgress
    from lamp_model.closed_loop.demonstrations import Collection

TASKS = 10
"""Of each of LIBERO's suites."""
ROBOSUITE_TASKS = ("lift", "stack")


@dataclass(frozen=True)
@optional_in_words
class Collect:
    """Make demonstrations in LIBERO's simulator with scripted controllers, in the layout of LIBERO's own HDF5 files.

    Only successes are kept. The seed of each is in its attributes, and gives the same demonstration again. Interrupted
    and given again, the same command goes on; a file that is finished is never replaced. See docs/collecting.md.
    """

    suite: Literal["libero_object", "libero_spatial", "libero_goal", "libero_10", "robosuite"]
    """Whose tasks; robosuite: its own lift and stack. Tasks without a controller are left out and named."""
    output: Path
    """Folder; the files are <output>/<suite>/<task>_demo.hdf5."""
    demos: int = 20
    """Demonstrations of each task."""
    tasks: tuple[str, ...] = ()
    """Numbers of tasks; of robosuite, lift or stack. [default: all]"""
    workers: int = 1
    """Simulators at the same time."""
    seed: int = 0
    """Of the collection: another gives other object places and motions. None of them are the initial states of the
    evaluation."""
    depth: bool = False
    """Record depth too (agentview_depth, eye_in_hand_depth), as LIBERO's tool does with --use-depth."""
    size: int = 256
    """Side of the pictures in pixels: 256 as lamp-policy evaluate shows them; LIBERO's own files have 128."""
    settle_steps: int = 10
    """Steps without motion before a recording begins."""
    max_steps: int = 300
    """Limit of a demonstration."""
    perturb: tuple[str, ...] = ()
    """Perturb each demonstration: AXIS:STRENGTH with the axes camera, light, background, noise, layout, robot,
    language."""
    pushes: float = 0.0
    """Push the hand off its way, on average so many times in 100 steps, so that demonstrations show how to come back;
    their actions stay the controller's."""
    sway: float = 0.0
    """Add noise to every movement, such as 0.15 (as an action: 1 moves the hand by about 2 cm in a step), so that
    demonstrations show how to correct small errors; their actions stay the controller's."""
    attempts: int | None = None
    """The most attempts at a task. [default: 3 for each demonstration, and 5]"""
    simulator_python: Path | None = None
    """The Python of the simulator's environment. [default: $LAMP_SIMULATOR_PYTHON, then .venv-sim, then this one]"""
    gl: Literal["egl", "osmesa"] = "egl"
    """MuJoCo's renderer."""
    json: bool = False
    """Print JSON."""


def collect_command(args: Collect) -> int:
    """Collect; 1 if a task has too few demonstrations."""
    from lamp_model.closed_loop.collecting import CollectionFailed
    from lamp_model.closed_loop.demonstrations import BadCollection, Collection
    from lamp_model.closed_loop.simulation.perturbations.spec import parse
    from lamp_model.closed_loop.simulators import NoSimulator

    for name in ("workers", "attempts"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be 1 or more, found {value}")
    numbers = _numbers(args)
    try:
        collection = Collection(
            args.suite,
            args.demos,
            args.seed,
            args.size,
            args.depth,
            args.settle_steps,
            args.max_steps,
            tuple(map(str, parse(args.perturb))),
            args.pushes,
            args.sway,
        )
        tasks = _collected(args, collection, numbers)
    except (CollectionFailed, NoSimulator) as error:
        raise Failed(str(error)) from error
    except (BadCollection, ValueError) as error:
        raise UsageError(str(error)) from error
    return _reported(args, tasks)


def _numbers(args: Collect) -> tuple[int, ...]:
    """The numbers of the tasks, each once, in order."""
    names = ROBOSUITE_TASKS if args.suite == "robosuite" else tuple(map(str, range(TASKS)))
    if unknown := [word for word in args.tasks if word not in names]:
        raise UsageError(f"the tasks of {args.suite} are {', '.join(names)}, and --tasks names {unknown[0]!r}")
    return tuple(sorted({names.index(word) for word in args.tasks or names}))


def _simulator(args: Collect) -> "Simulator":
    from lamp_model.closed_loop.benchmarks import SUITES
    from lamp_model.closed_loop.child import Simulator
    from lamp_model.closed_loop.simulators import NoSimulator, find_python, how_to_get

    suite = SUITES["robosuite_lift" if args.suite == "robosuite" else args.suite]
    python = find_python(args.simulator_python, suite)
    if python is None:
        raise NoSimulator(how_to_get(suite))
    return Simulator(python, args.gl)


def _collected(args: Collect, collection: "Collection", numbers: Sequence[int]) -> "list[TaskProgress]":
    from lamp_model.closed_loop.collecting import Collector
    from lamp_model.closed_loop.demonstrations import LOCK, CollectionFolder
    from schemas.locks import held
    from schemas.progress import open_progress

    simulator = _simulator(args)
    if file := next((p for p in (args.output / args.suite, args.output, *args.output.parents) if p.is_file()), None):
        raise UsageError(f"--output {args.output} must be a folder, and {file} is a file: choose another")
    (args.output / args.suite).mkdir(parents=True, exist_ok=True)
    most = args.attempts or 3 * args.demos + 5
    try:
        with held(args.output / args.suite / LOCK):
            shown: Any = None

            def told(result: Any) -> None:
                if result.success:
                    shown.update()
                shown.set_postfix_str(_failures(collector.tasks))

            collector = Collector(CollectionFolder(args.output, collection), simulator, numbers, most, told)
            done = sum(task.successes for task in collector.tasks)
            shown = open_progress("demonstrations", args.demos * len(numbers), "demo", done)
            try:
                collector.run(args.workers)
            finally:
                shown.close()
    except BlockingIOError:
        raise Failed(f"another lamp-data collect is at work in {args.output / args.suite}") from None
    return collector.tasks


def _failures(tasks: "Sequence[TaskProgress]") -> str:
    failed = sum(task.reasons.total() for task in tasks)
    return f"{failed} failed" if failed else ""


def _reported(args: Collect, tasks: "list[TaskProgress]") -> int:
    rows = [_row(task) for task in tasks]
    print(json.dumps({"suite": args.suite, "tasks": rows}, indent=1) if args.json else _text(args, rows))
    short = [task for task in tasks if not task.finished and not (task.unscripted and not args.tasks)]
    if short:
        one = short[0]
        why = (
            one.unscripted or f"{one.successes} of {one.wanted} after {one.attempts} attempts (--attempts allows more)"
        )
        raise Failed(f"{len(short)} task(s) without their demonstrations; task {one.number}: {why}")
    return 0


def _row(task: "TaskProgress") -> dict[str, Any]:
    seconds = round(sum(task.seconds) / len(task.seconds), 1) if task.seconds else None
    return {
        "task": task.number,
        "name": task.name,
        "finished": task.finished,
        "demonstrations": task.wanted if task.finished else task.successes,
        "attempts": task.attempts,
        "failures": dict(task.reasons),
        "seconds": seconds,
        "unscripted": task.unscripted,
    }


def _text(args: Collect, rows: list[dict[str, Any]]) -> str:
    lines = [f"{args.output / args.suite}: demonstrations of {args.suite}"]
    for row in rows:
        said = f"  {row['task']} {row['name']}: "
        if row["unscripted"]:
            lines.append(said + row["unscripted"])
            continue
        said += f"{row['demonstrations']} from {row['attempts']} attempts" if row["attempts"] else "was there"
        said += f", {row['seconds']:g} s each" if row["seconds"] is not None else ""
        lines.append("; ".join([said, *(f"{count} x {why}" for why, count in row["failures"].items())]))
    return "\n".join(lines)
