"""Where the hand of a policy would be when it arrives at the object, on demonstrations that it never saw.

    python benchmarks/reach.py RUN [RUN ...] --data SHARDS --demonstrations FOLDER [--windows 480] [--threads 1]

In windows 5 to 10 steps before the hand of a demonstration stands over the object that the goal wants elsewhere, the
movements of a predicted chunk up to that step are added up. Told are the mean distance, in the plane, of where they
lead from where the demonstration's hand arrived; and how much of the object's displacement from its mean place they
follow, in x and y, beyond what the place of the hand gives away: 1 is all of it, and a policy that sees nothing of the
object has 0. Beside it stand the recorded actions, which is what adding them up costs, and what the place of the hand
alone tells of them, which needs no eyes (a line fitted on these very windows). Fingers that open 8 cm leave 0.9 cm on
either side of a can of 6.2 cm.

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
from object_places import STILL_M, places, sources_of

from lamp_model.data.dataset import TrainingData
from lamp_model.data.loader import Loader
from lamp_model.training.rng import Purpose, generator
from lamp_model.training.stages import PolicyStage
from lamp_model.training.survey import spread

AHEAD = 5, 10
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
    """Of one demonstration; None where no object is moved."""
    stood = places(path, episode)
    if stood is None:
        return None
    with h5py.File(path) as file:
        data: Any = file["data"]
        hand = data[episode]["obs/ee_pos"][()][:, :2]
    moved = np.linalg.norm(stood - stood[0], axis=1) > STILL_M
    if not moved.any():
        return None
    before = np.linalg.norm(hand[: int(moved.argmax())] - stood[0, :2], axis=1)
    return Approach(hand, stood[0, :2], int((before < before[-1] + ARRIVED_M).argmax()))


@dataclass(frozen=True)
class Windows:
    """Windows before an arrival.

    Attributes:
        numbers: of the samples; ``ahead``: steps from each to the arrival.
        now, end: (N, 2) places of the hand then and at the arrival.
        displaced: (N, 2), what the object is off from its mean place over the task's windows.
        task: of each.
    """

    numbers: np.ndarray
    ahead: np.ndarray
    now: np.ndarray
    end: np.ndarray
    displaced: np.ndarray
    task: np.ndarray


def windows_before_arrival(data: TrainingData, files: Path, most: int) -> Windows:
    """At most so many, spread evenly.

    Raises:
        ValueError: there is none.
    """
    rows, found = [], []
    for number, source in enumerate(sources_of(data, range(len(data)))):
        demonstration = approach(files / source.file, source.episode)
        if demonstration is not None and AHEAD[0] <= demonstration.arrival - source.frame <= AHEAD[1]:
            rows.append(number)
            found.append((source.file, source.frame, demonstration))
    if not rows:
        raise ValueError(f"no window is {AHEAD[0]} to {AHEAD[1]} steps before a hand arrives")
    chosen = spread(len(rows), most)
    found = [found[row] for row in chosen]
    task, stood = np.array([file for file, _, _ in found]), np.stack([one.object for _, _, one in found])
    return Windows(
        np.array(rows)[chosen],
        np.array([one.arrival - frame for _, frame, one in found]),
        np.stack([one.hand[frame] for _, frame, one in found]),
        np.stack([one.hand[one.arrival] for _, _, one in found]),
        _without_means(stood, task),
        task,
    )


@torch.no_grad()
def moved_by(stage: PolicyStage, loader: Loader, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the first two actions up to the arrival, in the units of the data: predicted, and recorded (N x 2).

    Raises:
        ValueError: the policy's chunks end before.
    """
    chance = generator(torch.device("cpu"), 0, Purpose.VALIDATION, 0)
    predicted, recorded = [], []
    for batch in loader.in_order(windows.numbers):
        features = stage.encode(batch)
        noise = stage.model.action_noise(batch.size, chance)
        chunk = stage.predict(features, batch, noise, stage.model.motion_noise(batch.size, chance))
        predicted.append(stage.embodiments.denormalised_actions(chunk, batch.embodiment)[..., :2].numpy())
        recorded.append(batch.actions[..., :2].numpy())
    chunk, raw = np.concatenate(predicted), np.concatenate(recorded)
    if windows.ahead.max() > raw.shape[1]:
        raise ValueError(f"chunks of {raw.shape[1]} actions end before an arrival in {windows.ahead.max()} steps")
    until = (np.arange(raw.shape[1]) < windows.ahead[:, None])[..., None]
    return (chunk * until).sum(1), (raw * until).sum(1)


def reached(windows: Windows, sums: np.ndarray, recorded: np.ndarray) -> tuple[float, float, float]:
    """What these sums of actions do: cm beside the arrival, and the share of the object's displacement that they
    follow, in x and y."""
    movement = windows.end - windows.now
    lines = [np.polyfit(recorded[:, axis], movement[:, axis], 1) for axis in (0, 1)]
    led = np.stack([np.polyval(lines[axis], sums[:, axis]) for axis in (0, 1)], axis=1)
    off = float(np.linalg.norm(led - movement, axis=1).mean() * 100)
    known = np.c_[windows.displaced, _without_means(_felt(windows), windows.task)]
    fitted = np.linalg.lstsq(known, _without_means(led, windows.task), rcond=None)[0]
    return off, float(fitted[0, 0]), float(fitted[1, 1])


def eyeless(windows: Windows, recorded: np.ndarray) -> np.ndarray:
    """What the place of the hand and the steps to its arrival tell of the recorded sums, by a line for each axis."""
    felt, sums = (_without_means(values, windows.task) for values in (_felt(windows), recorded))
    return recorded - sums + felt @ np.linalg.lstsq(felt, sums, rcond=None)[0]


def _felt(windows: Windows) -> np.ndarray:
    return np.c_[windows.now, windows.ahead]


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
        predicted, recorded = moved_by(*load_policy_run(run, data), windows)
        if not rows:
            rows += [("recorded actions", recorded), ("by the hand's place", eyeless(windows, recorded))]
        rows.append((str(run), predicted))
    lines = ["| movements | cm beside | follows x | follows y |", "|---|---|---|---|"]
    for name, sums in rows:
        off, x, y = reached(windows, sums, recorded)
        lines.append(f"| {name} | {off:.2f} | {x:.2f} | {y:.2f} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
