"""Where the hand of a policy would be when it arrives at the object, on demonstrations that it never saw.

    python benchmarks/reach.py RUN [RUN ...] --data SHARDS --demonstrations FOLDER [--windows 480] [--threads 1]

In windows 10 to 18 steps before the hand of a demonstration stands over the object that the task is about (some 14 cm
away), the movements of a predicted chunk up to that step are added up. Told are the mean distance, in the plane, of
where they lead from where the demonstration's hand arrived; the same of the recorded actions, which is what adding
them up costs; and how much of the object's displacement from its mean place the hand follows, in x and y: 1 is all of
it. Fingers that open 8 cm leave 0.9 cm on either side of a can of 6.2 cm.

``FOLDER`` has the HDF5 files that the shards were built from, with ``--flow none``; they hold ``obs/ee_pos``. How far
an action moves the hand is fitted on the recorded ones.
"""

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from action_error import load_policy_run
from machine import at_least_one, describe
from object_places import STILL_M, places

from lamp_model.data.dataset import TrainingData
from lamp_model.data.loader import Loader
from lamp_model.training.rng import Purpose, generator
from lamp_model.training.stages import PolicyStage

AHEAD = 10, 18
ARRIVED_M = 0.007
"""The hand stands over the object once it is not farther from it than by so much more than when it moves it."""


@dataclass(frozen=True)
class Approach:
    """What a demonstration did until it moved the object. Places are in metres, in the plane of the table.

    Attributes:
        hand: (N, 2), what each frame shows.
        object: (2,), where it stands.
        arrival: the first frame with the hand over it.
    """

    hand: np.ndarray
    object: np.ndarray
    arrival: int


@functools.lru_cache(maxsize=512)
def approach(path: Path, episode: str) -> Approach | None:
    """Of one demonstration; None where the object is not moved."""
    stood = places(path, episode)
    with h5py.File(path) as file:
        data: Any = file["data"]
        hand = data[episode]["obs/ee_pos"][()][:, :2]
    moved = np.linalg.norm(stood - stood[0], axis=1) > STILL_M
    if not moved.any():
        return None
    before = np.linalg.norm(hand[: max(int(moved.argmax()), 1)] - stood[0, :2], axis=1)
    return Approach(hand, stood[0, :2], int((before < before[-1] + ARRIVED_M).argmax()))


@dataclass(frozen=True)
class Windows:
    """Windows before an arrival.

    Attributes:
        numbers: of the samples; ``ahead``: steps from each to the arrival.
        now, end: (N, 2) places of the hand then and at the arrival.
        object: (N, 2), and ``displaced``: its distance from the mean place of the task.
    """

    numbers: np.ndarray
    ahead: np.ndarray
    now: np.ndarray
    end: np.ndarray
    object: np.ndarray
    displaced: np.ndarray
    task: np.ndarray


def windows_before_arrival(data: TrainingData, files: Path, most: int) -> Windows:
    """At most so many, spread evenly.

    Raises:
        ValueError: there is none.
    """
    rows, found = [], []
    for number in range(len(data)):
        source = data.read(number, flow=False).source
        demonstration = approach(files / source.file, source.episode)
        if demonstration is not None and AHEAD[0] <= demonstration.arrival - source.frame <= AHEAD[1]:
            rows.append(number)
            found.append((source.file, source.frame, demonstration))
    if not rows:
        raise ValueError("no window is 10 to 18 steps before the hand arrives")
    chosen = np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))
    found = [found[row] for row in chosen]
    task, stood = np.array([file for file, _, _ in found]), np.stack([one.object for _, _, one in found])
    return Windows(
        np.array(rows)[chosen],
        np.array([one.arrival - frame for _, frame, one in found]),
        np.stack([one.hand[frame] for _, frame, one in found]),
        np.stack([one.hand[one.arrival] for _, _, one in found]),
        stood,
        _without_means(stood, task),
        task,
    )


@torch.no_grad()
def moved_by(stage: PolicyStage, loader: Loader, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the first two actions up to the arrival, in the units of the data: predicted, and recorded (N x 2)."""
    chance = generator(torch.device("cpu"), 0, Purpose.VALIDATION, 0)
    predicted, recorded = [], []
    for batch in loader.in_order(windows.numbers):
        features = stage.encode(batch)
        noise = stage.model.action_noise(batch.size, chance)
        guided = stage.model.guided_features(features, stage.model.motion_noise(batch.size, chance))
        state = stage.embodiments.states(batch.state, batch.embodiment)
        chunk = stage.model.act(guided, state, noise).float().clamp(-1, 1)
        known = stage.embodiments.actions(batch.actions, batch.embodiment)
        predicted.append(torch.stack([chunk, known])[..., :2].numpy())
        recorded.append(batch.actions[..., :2].numpy())
    normalised, raw = np.concatenate(predicted, axis=1), np.concatenate(recorded)
    inside = (np.abs(normalised[1]) < 1).all(-1)
    scale = [np.polyfit(normalised[1][inside][:, axis], raw[inside][:, axis], 1) for axis in range(2)]
    chunk = np.stack([np.polyval(scale[axis], normalised[0][..., axis]) for axis in range(2)], axis=-1)
    until = (np.arange(raw.shape[1]) < windows.ahead[:, None])[..., None]
    return (chunk * until).sum(1), (raw * until).sum(1)


def reached(windows: Windows, predicted: np.ndarray, recorded: np.ndarray) -> dict[str, float]:
    """Errors in cm, and the share of the object's displacement that is followed."""
    path = windows.end - windows.now
    lines = [np.polyfit(recorded[:, axis], path[:, axis], 1) for axis in (0, 1)]

    def led(sums: np.ndarray) -> np.ndarray:
        return windows.now + np.stack([np.polyval(lines[axis], sums[:, axis]) for axis in (0, 1)], axis=1)

    def off(sums: np.ndarray) -> float:
        return float(np.linalg.norm(led(sums) - windows.end, axis=1).mean() * 100)

    beside = _without_means(led(predicted) - windows.object, windows.task)
    follows = [1 + np.polyfit(windows.displaced[:, axis], beside[:, axis], 1)[0] for axis in (0, 1)]
    return {
        "predicted": off(predicted),
        "recorded": off(recorded),
        "follows_x": float(follows[0]),
        "follows_y": float(follows[1]),
    }


def _without_means(values: np.ndarray, task: np.ndarray) -> np.ndarray:
    """Less the mean of each task."""
    left = values.copy()
    for one in np.unique(task):
        left[task == one] -= values[task == one].mean(0)
    return left


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--demonstrations", type=Path, required=True)
    parser.add_argument("--windows", type=at_least_one, default=480)
    parser.add_argument("--threads", type=at_least_one, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = TrainingData(args.data)
    windows = windows_before_arrival(data, args.demonstrations, args.windows)
    away = np.linalg.norm(windows.now - windows.end, axis=1).mean() * 100
    print(f"{describe()}; {len(windows.numbers)} windows, the hand {away:.1f} cm before its arrival")
    rows = []
    for run in args.runs:
        told = reached(windows, *moved_by(*load_policy_run(run, data), windows))
        cells = f"{told['predicted']:.2f} | {told['recorded']:.2f} | {told['follows_x']:.2f} | {told['follows_y']:.2f}"
        rows.append(f"| {run} | {cells} |")
    print(
        "\n".join(
            ["| policy | off at the arrival, cm | recorded actions | follows x | y |", "|---|---|---|---|---|", *rows]
        )
    )


if __name__ == "__main__":
    main()
