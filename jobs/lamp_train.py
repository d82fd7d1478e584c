"""``lamp-train``: train stage 1 (the Motion Expert) or stage 2 (the policy that it guides) from shards."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

OPTIONS = ("steps", "batch_size", "learning_rate", "seed", "val_fraction", "checkpoint_every", "validate_every")


@dataclass(frozen=True)
class Train:
    """Train a stage of LaMP from shards that lamp-data built.

    Stage 1 teaches the Motion Expert to generate scene flow; stage 2 teaches Motion Guidance and the Action Expert to act,
    with the Motion Expert of stage 1 frozen. The preset tiny runs on any machine in a minute or two; the preset paper is the
    published size, needs a large GPU and downloads Qwen3-VL-4B-Instruct.

    Attributes:
        stage: 1 (motion) or 2 (policy).
        data: folder of shards (default shards/libero).
        output: folder of the run (default runs/stage1 or runs/stage2).
        motion: stage 2: the finished run of stage 1 to build on (default runs/stage1).
        preset: tiny or paper (default tiny; stage 2 takes that of stage 1).
        steps: optimiser steps (default: the preset's).
        batch_size: samples a step (default: tiny 8, paper 512).
        learning_rate: at the first step; a cosine brings it down (default: the preset's).
        seed: of weights, noise and order (default 0).
        val_fraction: share of the episodes held out for validation (default 0.1, at least one of two).
        chunk: actions predicted at once (default 10).
        validate_every: steps between looks at the held-out episodes (default: tiny 25, paper 1000).
        checkpoint_every: steps between checkpoints (default: tiny 50, paper 1000).
        resume: go on with the run in the output folder.
        device: auto (a GPU when there is one), cpu, cuda or cuda:N.
        threads: threads that decode samples.
    """

    stage: Literal[1, 2]
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    output: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    motion: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    preset: Literal["tiny", "paper"] | None = None
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    learning_rate: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    val_fraction: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    chunk: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    validate_every: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    checkpoint_every: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    device: str = "auto"
    threads: int = 2


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 0, 1 for failed work or 2 for a request that cannot be met."""
    return run(tyro.cli(Train, args=arguments, prog="lamp-train"))


def run(command: Train) -> int:
    """Carry out a parsed command."""
    output = command.output or Path(f"runs/stage{command.stage}")
    refusal = _missing_data(command, output)
    if refusal:
        return _say(refusal, 2)

    from lamp_model.training import run as training  # torch takes seconds to import

    _quiet()
    request = training.Request(
        stage=command.stage,
        data=command.data,
        output=output,
        motion=command.motion,
        preset=command.preset,
        options={name: value for name in OPTIONS if (value := getattr(command, name)) is not None},
        chunk=command.chunk,
        resume=command.resume,
        device=command.device,
        threads=command.threads,
    )
    from schemas.shard_formats import CorruptShard

    try:
        prepared = training.prepare(request)
    except CorruptShard as error:
        return _say(str(error), 1)
    except ValueError as error:
        return _say(str(error), 2)
    except OSError as error:
        return _say(f"{error.filename or output} cannot be read: {error.strerror or error}", 1)
    if prepared.finished:
        print(f"{output} has already finished its {prepared.config.training.steps} steps")
        return 0
    return _train(training, prepared)


def _train(training, prepared) -> int:
    from lamp_model.checkpoints import BadCheckpoint
    from lamp_model.loader import BadSample
    from lamp_model.run_folder import BadRun
    from lamp_model.training.loop import TrainingFailed
    from schemas.manifest import BadManifest
    from schemas.shard_formats import CorruptShard

    folder, stage = prepared.folder, prepared.config.training.stage
    try:
        verdict = training.train(prepared)
    except (BadCheckpoint, BadManifest, BadRun, BadSample, CorruptShard, TrainingFailed) as error:
        return _say(str(error), 1)
    except OSError as error:
        reason = error.strerror or error
        return _say(f"{error.filename or folder} cannot be written or read: {reason}; then go on with --resume", 1)
    except KeyboardInterrupt:
        return _say(f"interrupted; go on with: lamp-train --stage {stage} --output {folder} --resume", 130)
    finally:
        prepared.shards.close()
    for name, value in verdict.items():
        print(f"  {name.replace('_', ' ')}: {value:.5g}")
    print(f"finished: {folder}/model.safetensors, curves in {folder}/curves.png")
    if stage == 1:
        print("next: lamp-train --stage 2" + ("" if str(folder) == "runs/stage1" else f" --motion {folder}"))
    else:
        print(f"next: lamp_model.policy.load_policy({str(folder)!r}).predict(images, instruction, state)")
    return 0


def _missing_data(command: Train, output: Path) -> str | None:
    """What to say when there is nothing to train on; told without importing torch."""
    data = command.data or Path("shards/libero")
    resumed_elsewhere = command.data is None and command.resume and (output / "config.json").is_file()
    if resumed_elsewhere or data.is_file() or (data / "manifest.json").is_file():
        return None
    if not data.exists():
        remedy = "build shards with: lamp-data build --dataset libero" if command.data is None else "check --data"
        return f"no shards at {data.resolve()}: {remedy}"
    return f"{data.resolve()} holds no manifest.json, so its build has not finished: run lamp-data build again"


def _quiet() -> None:
    """Libraries' own progress bars and advice say nothing to the person who trains."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _say(message: str, code: int) -> int:
    print(f"lamp-train: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
