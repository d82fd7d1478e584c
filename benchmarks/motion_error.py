"""How well a run of stage 1 imagines motion on windows that it never saw, beside "nothing moves" and the linear probe.

    python benchmarks/motion_error.py RUN [--data SHARDS] [--windows 256] [--threads 1] [--pictures FOLDER]
        [--solver-steps 1 2 4 10 20] [--results FILE]

Without ``--data`` the windows are those of the run's held-out episodes; with it, those of other shards, as of episodes
that were recorded later. The probe is fitted on the run's own training episodes. Errors are over that of "nothing
moves", on the same windows. With ``--pictures`` a good, a typical and a bad window are drawn: the 10th, 50th and 90th
percentile of the first step's error on moving points. With ``--solver-steps`` only one rollout with each of these
numbers of Euler steps is measured; one step is the first step's estimate. With ``--results`` a line of JSON is added
to a file, from which ``learning_curve.py`` draws.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import at_least_one, describe
from motion_run import load_run, windows_of

from lamp_model.config import RunConfig
from lamp_model.data.loader import Loader
from lamp_model.networks import motion_layout
from lamp_model.training.rng import Purpose, generator
from lamp_model.training.rollout_error import RolloutErrors
from lamp_model.training.stages import MotionStage
from lamp_model.training.survey import probe_errors, take
from lamp_model.training.tally import Tally, merged
from schemas.scene_flow import SceneFlow

SHOWN = {"good": 0.1, "typical": 0.5, "bad": 0.9}
TOLD = ("first", "rollout", "mean", "best", "probe")


def errors_of(stage: MotionStage, loader: Loader, numbers: np.ndarray) -> tuple[Tally, list[float]]:
    """Figures over windows, and each one's error of the first step on moving points in units of nothing moves."""
    each, tallies = [], []
    with torch.no_grad():
        for index, batch in enumerate(loader.in_order(numbers)):
            chance = generator(torch.device("cpu"), 0, Purpose.VALIDATION, index)
            tallies.append(stage.evaluate(batch, chance, last=True).as_json())
            head = stage.model.motion_head
            noise = torch.randn(head.noise_shape(batch.size), generator=chance)
            first = motion_layout.denormalise(head.first_estimate(stage.encode(batch), noise)).numpy()
            for motion, scene in zip(first, batch.scenes, strict=True):
                alone = RolloutErrors()
                alone.add(motion, scene)
                means = alone.means()
                moves = means.get("still_px_moving", 0.0)
                each.append(means["rollout_px_moving"] / moves if moves > 2 else float("nan"))
    return merged(tallies), each


def in_groups(metrics: dict[str, float], counts: dict[str, int]) -> dict[str, dict[str, float]]:
    """Errors in pixels by group of points: moving, all, and standing, which are all others. The best of several
    rollouts is another one for each group, so that of standing points is not known."""
    groups = {}
    for group in ("moving", "all"):
        groups[group] = {name: metrics[f"{name}_px_{group}"] for name in ("still", *TOLD)}
    whole, moving = counts["still_px_all"], counts["still_px_moving"]
    groups["standing"] = {
        name: (groups["all"][name] * whole - groups["moving"][name] * moving) / (whole - moving)
        for name in groups["all"]
        if name != "best"
    }
    return groups


def keep_result(path: Path, run: Path, config: RunConfig, training: Loader, judged: int, record: dict) -> None:
    """Add a line of JSON: what was trained, on how much, and the errors."""
    motion, trained = config.model.motion, config.training
    line = {
        "run": run.resolve().name,
        "steps": trained.steps,
        "batch": trained.batch_size,
        "seed": trained.seed,
        "layers": motion.layers,
        "heads": motion.heads,
        "episodes": len(np.unique(training.shards.index["episode"][training.numbers])),
        "windows": len(training.numbers),
        "judged": judged,
        "machine": describe(),
        **record,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as results:
        results.write(json.dumps(line) + "\n")


def by_solver_steps(
    stage: MotionStage, loader: Loader, numbers: np.ndarray, counts: list[int]
) -> dict[int, dict[str, float]]:
    """Errors in pixels of one rollout of each window with each number of Euler steps, from the same noise."""
    head = stage.model.motion_head
    config, errors = head.config, {count: RolloutErrors() for count in counts}
    with torch.no_grad():
        for index, batch in enumerate(loader.in_order(numbers)):
            chance = generator(torch.device("cpu"), 0, Purpose.VALIDATION, index)
            features = stage.encode(batch)
            noise = torch.randn(head.noise_shape(batch.size), generator=chance)
            for count, found in errors.items():
                head.config = replace(config, denoising_steps=count, guidance_steps=0)
                motions = motion_layout.denormalise(head.rollout(features, noise)).numpy()
                for motion, scene in zip(motions, batch.scenes, strict=True):
                    found.add(motion, scene)
    head.config = config
    return {count: found.means() for count, found in errors.items()}


def print_solver_steps(found: dict[int, dict[str, float]]) -> None:
    """A table of errors over nothing moves."""
    print("| solver steps | moving points | all points |\n|---|---|---|")
    for count, means in found.items():
        ratios = [means[f"rollout_px_{group}"] / means[f"still_px_{group}"] for group in ("moving", "all")]
        print(f"| {count} | {ratios[0]:.3f} | {ratios[1]:.3f} |")


def draw(folder: Path, stage: MotionStage, loader: Loader, number: int, name: str, ratio: float) -> None:
    """The measured flow of a window beside the first step's estimate."""
    from pipeline.inspection.pictures import write_picture

    triplet = loader.shards.read(number)
    batch = next(iter(loader.in_order(np.array([number]))))
    head = stage.model.motion_head
    with torch.no_grad():
        noise = torch.randn(head.noise_shape(1), generator=torch.Generator().manual_seed(0))
        motion = motion_layout.denormalise(head.first_estimate(stage.encode(batch), noise))[0].numpy()
    start = triplet.flow.uvz[:, :1]
    positions = np.concatenate([start, start + np.cumsum(motion, axis=1)], axis=1)
    everywhere = np.repeat(triplet.flow.valid[:, :1], positions.shape[1], axis=1)
    imagined = SceneFlow(positions.astype(np.float32), everywhere, everywhere)
    folder.mkdir(parents=True, exist_ok=True)
    pair = [
        replace(triplet, instructions=("measured",)),
        replace(triplet, flow=imagined, instructions=(f"imagined ({name}: {ratio:.2f})",)),
    ]
    write_picture(folder / f"{name}.png", pair)


def main() -> None:
    """Measure, print a table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--windows", type=at_least_one, default=256)
    parser.add_argument("--threads", type=at_least_one, default=1)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--solver-steps", type=at_least_one, nargs="+")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{describe()}; torch {torch.__version__}, {args.threads} thread(s)")
    stage, config = load_run(args.run)
    training, held_out = windows_of(config, args.data)
    assert held_out is not None, "nothing is held out: give --data"
    numbers = held_out.numbers[np.linspace(0, len(held_out.numbers) - 1, args.windows).round().astype(int)]
    numbers = np.unique(numbers)
    if args.solver_steps:
        found = by_solver_steps(stage, held_out, numbers, args.solver_steps)
        print(f"{len(numbers)} windows; one rollout, over nothing moves")
        print_solver_steps(found)
        if args.results is not None:
            keep_result(args.results, args.run, config, training, len(numbers), {"solver_steps": found})
        return
    tally, each = errors_of(stage, held_out, numbers)
    probed = Loader(held_out.shards, numbers, held_out.config, held_out.batch_size, 0)
    metrics = stage.metrics(tally) | probe_errors(
        take(training, stage.encode, torch.device("cpu")), take(probed, stage.encode, torch.device("cpu"))
    )
    groups = in_groups(metrics, tally.counts)
    print(f"{len(numbers)} windows; px, and over nothing moves")
    for group in ("moving", "all"):
        still = groups[group]["still"]
        told = [f"{name} {groups[group][name] / still:.3f}" for name in TOLD]
        print(f"{group:<7} nothing moves {still:.3g} px; {'; '.join(told)}")
    told = [f"{name} {groups['standing'][name]:.3f}" for name in groups["standing"]]
    print(f"points that stand still, px: {'; '.join(told)}")
    if args.results is not None:
        parameters = sum(one.numel() for one in stage.model.motion_head.parameters())
        keep_result(
            args.results, args.run, config, training, len(numbers), {"parameters": parameters, "errors_px": groups}
        )
    if args.pictures is not None:
        known = [place for place in np.argsort(each) if np.isfinite(each[place])]
        for name, share in SHOWN.items():
            place = known[round(share * (len(known) - 1))]
            draw(args.pictures, stage, held_out, int(numbers[place]), name, each[place])


if __name__ == "__main__":
    main()
