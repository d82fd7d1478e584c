"""Why the error over all points is what it is: where a run of stage 1 imagines points to move that stand still.

    python benchmarks/standing_points.py RUN [--data SHARDS] [--windows 160] [--threads 1]

The error of points that stand still, in pixels, of the first step's estimate, of one rollout, and of nothing moves: by
their distance on the grid to the nearest moving point, by the step, and of points that are imagined to move (their mean
error is above ``IMAGINED``) beside all others. ``share`` is the share of the points, and of the sum of their errors.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from machine import at_least_one, describe
from motion_run import load_run, windows_of

from lamp_model.data.batch import Scene
from lamp_model.data.loader import Loader
from lamp_model.networks import motion_layout
from lamp_model.training.rng import Purpose, generator
from lamp_model.training.rollout_error import groups_of
from lamp_model.training.stages import MotionStage

NEAR = ((1, 2), (3, 4), (5, 7), (8, 99))
"""Distances to a moving point, in cells of the grid."""
STEPS = 4
IMAGINED = 2.0
"""Pixels."""
KINDS = ("first", "rollout", "still")


def distances(moving: Bool[np.ndarray, " K"]) -> Int[np.ndarray, " K"]:
    """Of each keypoint to the nearest moving one, in cells along the farther of both sides; 99 where none moves."""
    side = round(len(moving) ** 0.5)
    place = np.stack(np.divmod(np.arange(len(moving)), side), axis=1)
    apart = np.abs(place[:, None] - place[moving][None]).max(axis=2)
    return apart.min(axis=1) if moving.any() else np.full(len(moving), 99)


def errors_of(motion: Float[np.ndarray, "K T 3"], scene: Scene) -> Float[np.ndarray, "K T"]:
    """Pixels from the measured positions."""
    positions = scene.uvz[:, :1] + np.cumsum(motion, axis=1)
    return np.linalg.norm((positions - scene.uvz[:, 1:])[..., :2] * scene.size, axis=-1)


class Standing:
    """Errors of the standing points of all windows seen, a row for each point."""

    def __init__(self) -> None:
        self.errors: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
        self.usable: list[np.ndarray] = []
        self.apart: list[np.ndarray] = []

    def add(self, stage: MotionStage, loader: Loader, numbers: np.ndarray) -> None:
        """Look at windows; the noise is that of ``motion_error.py``."""
        head = stage.model.motion_head
        for index, batch in enumerate(loader.in_order(numbers)):
            with torch.no_grad():
                features = stage.encode(batch)
                chance = generator(torch.device("cpu"), 0, Purpose.VALIDATION, index)
                noise = torch.randn(head.noise_shape(batch.size), generator=chance)
                first = motion_layout.denormalise(head.first_estimate(features, noise)).numpy()
                rollout = motion_layout.denormalise(head.rollout(features, noise)).numpy()
            for place, scene in enumerate(batch.scenes):
                groups = groups_of(scene)
                moving = np.asarray(groups["moving"].any(axis=1))
                standing = groups["all"].any(axis=1) & ~moving
                motions = {"first": first[place], "rollout": rollout[place], "still": np.zeros_like(first[place])}
                for kind, motion in motions.items():
                    self.errors[kind].append(errors_of(motion, scene)[standing])
                self.usable.append(groups["all"][standing])
                self.apart.append(distances(moving)[standing])

    def print(self) -> None:
        """Three tables."""
        usable, apart = np.concatenate(self.usable), np.concatenate(self.apart)
        errors = {kind: np.where(usable, np.concatenate(parts), 0) for kind, parts in self.errors.items()}
        totals = {kind: rows.sum() for kind, rows in errors.items()}

        def row(label: str, chosen: np.ndarray) -> None:
            mine = np.broadcast_to(chosen, usable.shape) & usable
            if not mine.any():
                return
            told = " | ".join(f"{errors[kind][mine].mean():.3f}" for kind in KINDS)
            shares = " | ".join(f"{errors[kind][mine].sum() / totals[kind]:.0%}" for kind in ("first", "rollout"))
            print(f"| {label} | {mine.sum() / usable.sum():.1%} | {told} | {shares} |")

        print("| standing points | share | first, px | rollout, px | nothing moves, px | of first | of rollout |")
        print("|---|---|---|---|---|---|---|")
        row("all", np.ones(1, bool))
        for low, high in NEAR:
            row(f"{low} to {high} cells from a moving point", ((low <= apart) & (apart <= high))[:, None])
        ends = np.linspace(0, usable.shape[1], STEPS + 1).round().astype(int)
        for low, high in pairwise(ends):
            steps = np.arange(usable.shape[1])
            row(f"steps {low + 1} to {high}", ((low <= steps) & (steps < high))[None])
        for kind in ("first", "rollout"):
            means = errors[kind].sum(axis=1) / np.maximum(usable.sum(axis=1), 1)
            row(f"imagined to move by the {kind}", (means > IMAGINED)[:, None])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--windows", type=at_least_one, default=160)
    parser.add_argument("--threads", type=at_least_one, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{describe()}; torch {torch.__version__}, {args.threads} thread(s)")
    stage, config = load_run(args.run)
    held_out = windows_of(config, args.data)[1]
    assert held_out is not None, "nothing is held out: give --data"
    places = np.linspace(0, len(held_out.numbers) - 1, args.windows).round().astype(int)
    found = Standing()
    found.add(stage, held_out, held_out.numbers[np.unique(places)])
    found.print()


if __name__ == "__main__":
    main()
