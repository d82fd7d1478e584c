"""Statistics of the states and actions of the training samples, without held-out episodes.

A build's own ``statistics.json`` covers all of its episodes, including those that are held out in training. So all
training samples are read once when a run of stage 2 begins, and the result is stored with the run.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from lamp_model.data.dataset import TrainingData
from lamp_model.data.embodiments import STANDARD, run_statistics
from schemas.triplet import Triplet

AHEAD = 256
"""Number of samples that are read at once."""


def training_statistics(
    data: TrainingData, numbers: np.ndarray, actions: str | None, chunk: int, threads: int
) -> dict[str, Any]:
    """``lamp_model.data.embodiments.run_statistics``, computed over the training samples.

    Args:
        numbers: of the training samples.
        actions: ``raw``; ``standard``; None takes the standard form where there is one.
        chunk: number of actions of a sample that are learnt.

    Raises:
        BadRun: the standard form was requested but the data do not have it.
        CorruptShard: a sample is damaged.
    """
    kept = run_statistics(data, actions)
    by_name = kept.get("embodiments") or {data.embodied[0].name: kept}
    values: dict[int, dict[str, list[np.ndarray]]] = {}
    for number, triplet in _read(data, numbers, threads):
        which = data.embodiment_of(number, triplet)
        standard = by_name[data.embodied[which].name]["actions"] == STANDARD
        mine = values.setdefault(which, {"state": [], "action": []})
        mine["state"].append(triplet.state[None])
        mine["action"].append(_learnt(triplet, standard, chunk))
    made = {one.name: _with_values(by_name[one.name], values.get(place)) for place, one in enumerate(data.embodied)}
    return next(iter(made.values())) if len(made) == 1 else {"embodiments": made}


def _read(data: TrainingData, numbers: np.ndarray, threads: int) -> Iterator[tuple[int, Triplet]]:
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(numbers), desc="statistics", unit="sample", delay=5, mininterval=1) as bar,
    ):
        for first in range(0, len(numbers), AHEAD):
            some = [int(number) for number in numbers[first : first + AHEAD]]
            yield from zip(some, pool.map(data.read, some), strict=True)
            bar.update(len(some))


def _learnt(triplet: Triplet, standard: bool, chunk: int) -> np.ndarray:
    """The actions of a sample's chunk that lie within the episode, [N, A]."""
    if standard and triplet.standard_actions is not None:
        return triplet.standard_actions.values[:chunk][triplet.standard_actions.mask[:chunk]]
    return triplet.actions[:chunk][triplet.action_mask[:chunk]]


def _with_values(kept: dict[str, Any], values: dict[str, list[np.ndarray]] | None) -> dict[str, Any]:
    """Statistics with replaced values; the build's own values where a robot has no training sample."""
    if values is None:
        return kept
    counts = {name: value for name, value in kept.items() if not name.startswith("num_")}
    return {
        **counts,
        "num_samples": len(values["state"]),
        **{name: {**kept[name], **_numbers(np.concatenate(rows))} for name, rows in values.items()},
    }


def _numbers(rows: np.ndarray) -> dict[str, Any]:
    """Statistics over rows [N, D], with the keys of ``schemas.manifest.read_statistics``; empty where there is no row
    or no dimension."""
    if not rows.size:
        return {}
    rows = rows.astype(np.float64)
    q01, q99 = np.quantile(rows, (0.01, 0.99), axis=0)
    found = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0), "q01": q01, "q99": q99}
    return {"count": len(rows), **{name: value.tolist() for name, value in found.items()}}
