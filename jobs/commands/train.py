"""``lamp-train`` itself: prepare a run, train it and report the result."""

import contextlib
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.cli.command_line import check_paths
from jobs.cli.exit_codes import Failed, UsageError, code_of
from jobs.cli.shipped import recipe_path
from jobs.cli.torch_env import let_threads_sleep, quieten
from jobs.cli.train_options import Train, request_of, with_recipe
from jobs.commands.dry_run import dry_run, without_weights
from schemas.errors import StoreFailed
from schemas.file_cache import limit_cache
from schemas.locations import locate
from schemas.progress import show_progress
from schemas.structured import BadFile

if TYPE_CHECKING:
    from lamp_model.training.distributed.ranks import Ranks
    from lamp_model.training.preparation import Prepared
    from lamp_model.training.stopping import StopRequest


class _Ended(Exception):
    """The work was ended by a signal or a request to stop.

    Attributes:
        code: the exit code.
    """

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def train_command(args: Train) -> int:
    """Train with these options and report the result; returns the exit code."""
    args = _with_recipe(args)
    check_paths(args)
    if not 0 <= args.cache < math.inf:
        raise UsageError(f"--cache is a number of GB, 0 or more, found {args.cache}")
    output = args.output or Path(f"runs/stage{args.stage}")
    _check_data(args, output)
    let_threads_sleep()
    if args.workers is not None:
        from jobs.commands.train_on_ray import train_on_ray

        return train_on_ray(args, output, args.workers)
    with _joined(args) as ranks:
        quieten()
        if ranks.first:
            return train_as(args, output, ranks)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            show_progress(False)
            try:
                return train_as(args, output, ranks)
            except UsageError:
                return 2
            except Failed:
                return 1


@contextmanager
def _joined(args: Train) -> "Iterator[Ranks]":
    """This process among those that torchrun or srun started.

    Raises:
        UsageError: the launcher or the device is not usable.
        Failed: some of them did not come.
    """
    from lamp_model.training.distributed.joining import joined, launch_of
    from lamp_model.training.distributed.ranks import ALONE, RankLost
    from lamp_model.training.preparation import device_of

    try:
        launch = launch_of(os.environ)
        device = device_of(args.device, launch.ranks if launch else ALONE)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with contextlib.ExitStack() as stack:
        try:
            ranks = stack.enter_context(joined(launch, device))
        except RankLost as error:
            raise Failed(str(error)) from error
        yield ranks


def train_as(args: Train, output: Path, ranks: "Ranks", uneven: bool = False) -> int:
    """Train as one of several ranks, or alone; returns the exit code, the same on every rank.

    Args:
        uneven: ranks may get different numbers of samples.

    Raises:
        UsageError, Failed: this rank or another cannot train.
    """
    from lamp_model.training.distributed.ranks import RankFailed, RankLost

    limit_cache(args.cache)
    try:
        prepared = ranks.agreed(lambda: _prepared(args, output, ranks, uneven), quick=False)
        with contextlib.closing(prepared.data):
            if args.dry_run:
                return dry_run(args, prepared)
            if prepared.finished:
                print(f"{output} has already finished its {prepared.config.training.steps} steps")
                return 0
            _say_results(prepared, _train(prepared))
        return 0
    except _Ended as ended:
        if ranks.first:
            print(f"\nlamp-train: {ended}", file=sys.stderr)
        return ended.code
    except RankFailed as error:
        raise (UsageError if error.kind == UsageError.__name__ else Failed)(str(error)) from error
    except RankLost as error:
        raise Failed(f"{error}; {_way_on(args.stage, output)}") from error


def _prepared(args: Train, output: Path, ranks: "Ranks", uneven: bool) -> "Prepared":
    from lamp_model.training.preparation import prepare
    from schemas.errors import MissingDependency, MissingWeights
    from schemas.shard_formats import CorruptShard

    try:
        request = request_of(args, output)
        try:
            return prepare(request, ranks, uneven)
        except MissingWeights as error:
            if not args.dry_run or (planned := without_weights(request, error)) is None:
                raise
            return prepare(planned, ranks, uneven)
    except (CorruptShard, MissingDependency) as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def _with_recipe(args: Train) -> Train:
    if args.recipe is not None:
        try:
            args = with_recipe(args, recipe_path(args.recipe, "train"))
        except BadFile as error:
            raise UsageError(str(error)) from error
    if args.stage is None:
        raise UsageError(
            "--stage is missing: 1 trains the motion, 2 the policy; or give --recipe with a file that says it"
        )
    return args


def _train(prepared: "Prepared") -> dict[str, float]:
    """Train; a SIGTERM during training ends it with a checkpoint.

    Raises:
        Failed: the training could not be done.
        _Ended: it was stopped by a signal.
    """
    from lamp_model.errors import BadCheckpoint, BadRun, BadSample, TooLong
    from lamp_model.training.distributed.ranks import RankFailed
    from lamp_model.training.out_of_memory import OutOfMemory
    from lamp_model.training.run import train
    from lamp_model.training.stopping import Stopped
    from lamp_model.training.trainer import TrainingFailed
    from schemas.manifest import BadManifest
    from schemas.plugins import MissingDependency
    from schemas.shard_formats import CorruptShard

    where = prepared.config.training.stage, prepared.folder
    try:
        with _stopping_on_sigterm() as stop:
            return train(prepared, stop)
    except Stopped as stopped:
        kept = f"step {stopped.saved} is kept; " if stopped.saved else ""
        raise _Ended(code_of(signal.SIGTERM), f"told to stop (SIGTERM); {kept}{_way_on(*where)}") from None
    except KeyboardInterrupt:
        raise _Ended(code_of(signal.SIGINT), f"interrupted; {_way_on(*where)}") from None
    except RankFailed as error:
        if error.kind == Stopped.__name__:
            raise _Ended(code_of(signal.SIGTERM), f"a rank was told to stop (SIGTERM); {_way_on(*where)}") from None
        raise
    except MissingDependency as error:
        raise Failed(f"{error}; --preset tiny needs none, to try the rest") from error
    except (BadCheckpoint, TooLong, BadManifest, BadRun, BadSample, CorruptShard, TrainingFailed, OutOfMemory) as error:
        raise Failed(str(error)) from error
    except StoreFailed as error:
        raise Failed(f"{error}; when that is mended, {_way_on(*where)}") from error
    except OSError as error:
        if error.strerror is None:
            raise
        file = f": {error.filename}" if error.filename else ""
        raise Failed(f"{error.strerror}{file}; when that is mended, {_way_on(*where)}") from error


def _way_on(stage: int | None, folder: Path) -> str:
    """How to continue a run that was interrupted."""
    from lamp_model.storage.run_folder import CONFIG

    if not (folder / CONFIG).is_file():
        return "give the same command again"
    return f"go on with lamp-train --stage {stage} --output {folder} --resume"


@contextmanager
def _stopping_on_sigterm() -> "Iterator[StopRequest]":
    """A request to stop that SIGTERM sets. While no code checks it (the model is being built, or the run has finished)
    the signal ends the work at once. A second signal ends the process.
    """
    from lamp_model.training.stopping import Stopped, StopRequest

    stop = StopRequest()

    def ask(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stop.asked = True
        if not stop.heeded:
            raise Stopped(None)

    try:
        before = signal.signal(signal.SIGTERM, ask)
    except ValueError:  # not in the main thread, for example when another program calls this
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_results(prepared: "Prepared", metrics: dict[str, float]) -> None:
    from lamp_model.training.motion_report import validation_line, verdict

    folder, stage = prepared.folder, prepared.config.training.stage
    print(f"{folder}: finished; model.safetensors, and curves in curves.png and metrics.jsonl")
    if "val_loss" in metrics:
        print(f"  held-out loss  {metrics['val_loss']:.4f}")
    if "action_error" in metrics:
        print(
            f"  actions        off by {metrics['action_error']:.3f} on average (normalised to [-1, 1]); "
            f"the data's mean action by {metrics['mean_action_error']:.3f}"
        )
    if told := validation_line(metrics):
        print(f"  motion         {told}".replace("; ", "\n                 "))
    for group in ("moving", "all"):
        for unit in ("m", "relative"):
            name = f"{unit}_{group}"
            if f"rollout_{name}" in metrics:
                print(
                    f"  rollout        {group} points off by {metrics[f'rollout_{name}']:.3g} {unit}; "
                    f"nothing moves: {metrics[f'still_{name}']:.3g} {unit}"
                )
    if stage == 1:
        motion = "" if str(folder) == "runs/stage1" else f" --motion {folder}"
        path = prepared.data.path
        print(f"next: lamp-train --stage 2{'' if path == Path('shards/libero') else f' --data {path}'}{motion}")
    else:
        robots = prepared.data.embodied
        whose = f", statistics_key={robots[0].name!r}" if len(robots) > 1 else ""
        print(
            f"next, in Python: lamp_model.policy.load_policy({str(folder)!r}{whose}).predict(images, instruction, "
            "state)"
        )
    if told := verdict(metrics):
        print(told)


def _check_data(args: Train, output: Path) -> None:
    """Raise an error if there is nothing to train on, before torch is imported."""
    data = locate(args.data or Path("shards/libero"))
    goes_on = args.data is None and args.resume and (output / "config.json").is_file()
    if goes_on or data.is_file() or any((data / name).is_file() for name in ("manifest.json", "mixture.json")):
        return
    if not data.exists():
        remedy = "build them with lamp-data build --dataset libero" if args.data is None else "look at --data"
        raise UsageError(f"there are no shards at {data.resolve()}: {remedy}")
    raise UsageError(f"{data.resolve()} has no manifest.json: its build has not finished, run lamp-data build again")
