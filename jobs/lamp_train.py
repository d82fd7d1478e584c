"""``lamp-train``: train stage 1 (the Motion Expert) or stage 2 (the policy that it guides) from shards."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from jobs.cli.exit_codes import Failed, UsageError, run_command
from jobs.cli.torch_env import quieten, wait_politely
from jobs.cli.train_options import Train, request_of
from jobs.cli.train_recipe import with_recipe
from jobs.commands.export import Export, export_command
from schemas.structured import BadFile

if TYPE_CHECKING:
    from lamp_model.training.run import Prepared


def train_command(args: Train) -> int:
    """Train as asked and say what came of it; the exit code."""
    args = _with_recipe(args)
    output = args.output or Path(f"runs/stage{args.stage}")
    _check_data(args, output)
    wait_politely()
    from lamp_model.training import run as training
    from schemas.shard_formats import CorruptShard

    quieten()
    try:
        prepared = training.prepare(request_of(args, output))
    except CorruptShard as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        if prepared.finished:
            print(f"{output} has already finished its {prepared.config.training.steps} steps")
            return 0
        _say_results(prepared, _train(prepared))
        return 0
    finally:
        prepared.data.close()


def _with_recipe(args: Train) -> Train:
    if args.recipe is not None:
        try:
            args = with_recipe(args, args.recipe)
        except BadFile as error:
            raise UsageError(str(error)) from error
    if args.stage is None:
        raise UsageError(
            "--stage is missing: 1 trains the motion, 2 the policy; or give --recipe with a file that says it"
        )
    return args


def _train(prepared: "Prepared") -> dict[str, float]:
    from lamp_model.errors import BadCheckpoint, BadRun, BadSample, TooLong
    from lamp_model.storage.run_folder import CONFIG
    from lamp_model.training.run import train
    from lamp_model.training.trainer import TrainingFailed
    from schemas.manifest import BadManifest
    from schemas.plugins import MissingDependency
    from schemas.shard_formats import CorruptShard

    again = f"lamp-train --stage {prepared.config.training.stage} --output {prepared.folder} --resume"
    begun = prepared.folder / CONFIG
    try:
        return train(prepared)
    except MissingDependency as error:
        raise Failed(f"{error}; --preset tiny needs none, to try the rest") from error
    except (
        BadCheckpoint,
        TooLong,
        BadManifest,
        BadRun,
        BadSample,
        CorruptShard,
        TrainingFailed,
    ) as error:
        raise Failed(str(error)) from error
    except OSError as error:
        if error.strerror is None:
            raise
        where = f": {error.filename}" if error.filename else ""
        then = f"go on with {again}" if begun.is_file() else "give the same command again"
        raise Failed(f"{error.strerror}{where}; when that is mended, {then}") from error
    except KeyboardInterrupt:
        if begun.is_file():
            print(f"\ngo on with {again}", file=sys.stderr)
        raise


def _say_results(prepared: "Prepared", metrics: dict[str, float]) -> None:
    folder, stage = prepared.folder, prepared.config.training.stage
    print(f"{folder}: finished; model.safetensors, and curves in curves.png and metrics.jsonl")
    if "val_loss" in metrics:
        print(f"  held-out loss  {metrics['val_loss']:.4f}")
    if "action_error" in metrics:
        print(
            f"  actions        off by {metrics['action_error']:.3f} on average (normalised to [-1, 1]); "
            f"the data's mean action by {metrics['mean_action_error']:.3f}"
        )
    for group in ("moving", "all"):
        for unit in ("px", "m", "relative"):
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


def _check_data(args: Train, output: Path) -> None:
    """Refuse when there is nothing to train on, before torch is imported."""
    data = args.data or Path("shards/libero")
    goes_on = args.data is None and args.resume and (output / "config.json").is_file()
    if goes_on or data.is_file() or any((data / name).is_file() for name in ("manifest.json", "mixture.json")):
        return
    if not data.exists():
        remedy = "build them with lamp-data build --dataset libero" if args.data is None else "look at --data"
        raise UsageError(f"there are no shards at {data.resolve()}: {remedy}")
    raise UsageError(f"{data.resolve()} has no manifest.json: its build has not finished, run lamp-data build again")


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
