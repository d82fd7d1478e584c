"""What the state that guides the policy tells: a linear probe of it, before and after stage 1, beside the features.

    python benchmarks/hidden_state.py RUN [--data SHARDS] [--threads 1]
        [--demonstrations OF_RUN OF_SHARDS [--fit-on 5 20]]

Ridge regression, its strength chosen on episodes of the training split, from (1) the backbone's features, (2) the
hidden state after one denoising step with the weights of before the first step, (3) the same after stage 1, to the
motion (mean distance of moving points over that of "nothing moves") and to the next ten actions (root of the mean
squared error over that of always the mean action). 1 knows nothing. If (3) is not better than (1), guidance by it tells
the policy nothing new.

With the folders of HDF5 files that the run's own shards and ``--data`` were built from it also probes for where the
object stands that the goal wants elsewhere, in cm, in windows in which nothing has moved it yet: fitted on all, and on
the first so many demonstrations of each task, as a policy of so many would have to.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from machine import at_least_one, describe
from motion_run import load_run, windows_of
from object_places import sources_of, standing_at

from lamp_model.data.loader import Loader
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.training.linear_probe import STRENGTHS, Ridge, chosen_strength, predict
from lamp_model.training.rollout_error import groups_of
from lamp_model.training.stages import MotionStage
from lamp_model.training.survey import SPREAD, aligned, spread

STEPS = 4
ACTIONS = 10
MOST = 2048


class Windows:
    """Features, hidden states and what they should tell, over windows.

    Attributes:
        standing: numbers of the windows in which the object has not been moved; none where its place is not known.
    """

    def __init__(self, stage: MotionStage, fresh: MotionExpert, loader: Loader, most: int, files: Path | None = None):
        """``files``: the HDF5 files that the windows are from, for the places of objects."""
        numbers = loader.numbers[spread(len(loader.numbers), most)]
        seen: dict[str, list[torch.Tensor]] = {name: [] for name in ("features", "before", "after")}
        truth, moving, actions, known = [], [], [], []
        chance = torch.Generator().manual_seed(0)
        for batch in loader.in_order(numbers):
            with torch.no_grad():
                features = stage.encode(batch)
                noise = torch.randn(stage.model.motion_head.noise_shape(batch.size), generator=chance)
                seen["features"].append(aligned(features)[0])
                seen["before"].append(fresh.guidance_state(features, noise).flatten(1))
                seen["after"].append(stage.model.motion_head.guidance_state(features, noise).flatten(1))
            for scene in batch.scenes:
                at = np.linspace(0, scene.uvz.shape[1] - 1, STEPS + 1).round().astype(int)[1:]
                valid = scene.valid[:, at] & scene.valid[:, :1]
                moved = (scene.uvz[:, at, :2] - scene.uvz[:, :1, :2]) * scene.size
                truth.append(torch.from_numpy(np.where(valid[..., None], moved, 0).astype(np.float32)))
                moving.append(torch.from_numpy(groups_of(scene)["moving"][:, at - 1]))
            actions.append(batch.actions[:, :ACTIONS])
            known.append(batch.action_mask[:, :ACTIONS])
        longest = max(tokens.shape[1] for tokens in seen["features"])
        pad = torch.nn.functional.pad
        padded = [pad(tokens, (0, 0, 0, longest - tokens.shape[1])).flatten(1) for tokens in seen["features"]]
        self.seen = {**{name: torch.cat(parts) for name, parts in seen.items() if name != "features"}}
        self.seen["features"] = torch.cat(padded)
        self.truth, self.moving = torch.stack(truth), torch.stack(moving)
        self.actions, self.known = torch.cat(actions), torch.cat(known)
        self.places = torch.full((len(numbers), 2), torch.nan)
        self.tasks, self.demonstration = np.full(len(numbers), ""), np.zeros(len(numbers), int)
        if files is not None:
            sources = sources_of(loader.shards, numbers)
            self.tasks = np.array([source.file for source in sources])
            self.demonstration = np.array([int(source.episode.removeprefix("demo_")) for source in sources])
            for row, source in enumerate(sources):
                place = standing_at(files, source.file, source.episode, source.frame)
                if place is not None:
                    self.places[row] = torch.from_numpy(place)
        self.standing = (~self.places.isnan().any(1)).nonzero()[:, 0]
        self.episodes = np.unique(loader.shards.index["episode"][numbers], return_inverse=True)[1]


Score = Callable[[torch.Tensor, Windows, torch.Tensor], float]
"""(predicted rows, the windows that they are among, their numbers there) to an error, smaller is better."""


class Probe:
    """Ridge regressions from one kind of state."""

    def __init__(self, fitted: Windows, judged: Windows, name: str):
        x, new = fitted.seen[name], judged.seen[name]
        width = min(x.shape[1], new.shape[1])
        mean, deviation = x[:, :width].mean(0), x[:, :width].std(0)
        scale = deviation + SPREAD * x.std()
        x, new = (x[:, :width] - mean) / scale, (new[:, :width] - mean) / scale
        self._fitted, self._judged = fitted, judged
        self._gram, self._inner = x @ x.T, new @ x.T

    def error(self, target: torch.Tensor, score: Score, rows: torch.Tensor, new: torch.Tensor) -> float:
        """Of the judged windows with these numbers, after fitting those with these ``rows``, which ``target`` has."""
        ridge = Ridge(self._gram[rows][:, rows])
        strength = chosen_strength(
            ridge,
            self._fitted.episodes[rows.numpy()].tolist(),
            target,
            lambda found, numbers: score(found, self._fitted, rows[torch.from_numpy(numbers)]),
        )
        weights = ridge.weights(np.arange(len(rows)), self._inner[new][:, rows], strength)
        return score(predict(weights, target), self._judged, new)


def probe(fitted: Windows, judged: Windows, name: str, fit_on: Sequence[float]) -> list[float]:
    """Errors on motion, actions and places of objects, the last fitted on the first so many demonstrations of each
    task, once for each number."""
    regression = Probe(fitted, judged, name)
    every, all_judged = torch.arange(len(fitted.truth)), torch.arange(len(judged.truth))

    def motion_error(rows: torch.Tensor, windows: Windows, numbers: torch.Tensor) -> float:
        off = (rows.view(-1, *windows.truth.shape[1:]) - windows.truth[numbers]).norm(dim=-1)
        still = windows.truth[numbers].norm(dim=-1)
        return float(off[windows.moving[numbers]].mean() / still[windows.moving[numbers]].mean())

    actions_mean = fitted.actions[fitted.known].mean(0)
    actions_scale = fitted.actions[fitted.known].std(0) + 1e-6

    def action_error(rows: torch.Tensor, windows: Windows, numbers: torch.Tensor) -> float:
        wanted = (windows.actions[numbers] - actions_mean) / actions_scale
        off = ((rows.view_as(wanted) - wanted) ** 2)[windows.known[numbers]].mean()
        return float((off / (wanted**2)[windows.known[numbers]].mean()).sqrt())

    scaled = ((fitted.actions - actions_mean) / actions_scale).flatten(1)
    found = [
        regression.error(fitted.truth.flatten(1), motion_error, every, all_judged),
        regression.error(scaled, action_error, every, all_judged),
    ]
    number = torch.from_numpy(fitted.demonstration)[fitted.standing]
    for count in fit_on:
        rows = fitted.standing[number < count]
        found.append(regression.error(fitted.places[rows], _place_error, rows, judged.standing))
    return found


def _place_error(rows: torch.Tensor, windows: Windows, numbers: torch.Tensor) -> float:
    """Mean distance in cm."""
    return float((rows - windows.places[numbers]).norm(dim=-1).mean() * 100)


def _place_unseen(fitted: Windows, judged: Windows) -> float:
    """The same of always the mean place of the task."""
    tasks, known = fitted.tasks[fitted.standing.numpy()], fitted.places[fitted.standing]
    means = {task: known[torch.from_numpy(tasks == task)].mean(0) for task in np.unique(tasks)}
    always = torch.stack([means.get(task, known.mean(0)) for task in judged.tasks[judged.standing.numpy()]])
    return _place_error(always, judged, judged.standing)


def main() -> None:
    """Probe the three and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--demonstrations", type=Path, nargs=2, metavar="FOLDER", default=(None, None))
    parser.add_argument("--fit-on", type=at_least_one, nargs="+", default=[])
    parser.add_argument("--threads", type=at_least_one, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{describe()}; torch {torch.__version__}, {args.threads} thread(s)")
    stage, config = load_run(args.run)
    training, held_out = windows_of(config, args.data)
    assert held_out is not None, "nothing is held out: give --data"
    torch.manual_seed(config.training.seed)
    fresh = MotionExpert(config.model.motion, stage.model.qwen_vl_interface.width).eval().requires_grad_(False)
    for name, buffer in stage.model.motion_head.named_buffers():
        fresh.get_buffer(name).copy_(buffer)
    both = zip((training, held_out), args.demonstrations, strict=True)
    fitted, judged = (Windows(stage, fresh, loader, MOST, files) for loader, files in both)
    print(f"fitted on {len(fitted.truth)} windows, judged on {len(judged.truth)}; strengths {STRENGTHS}")
    columns, fit_on = ["from", "motion, moving points", "next 10 actions"], []
    if len(fitted.standing) and len(judged.standing):
        fit_on = [*args.fit_on, float("inf")]
        print(f"place of the object: {_place_unseen(fitted, judged):.2f} cm off if it is always the task's mean")
        columns += [f"place, cm, from {count} a task" for count in args.fit_on] + ["place, cm, from all"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    labels = {
        "features": "features of the backbone",
        "before": "hidden state before stage 1",
        "after": "hidden state after stage 1",
    }
    for name, label in labels.items():
        errors = probe(fitted, judged, name, fit_on)
        print(f"| {label} | {' | '.join(f'{error:.3f}' for error in errors)} |", flush=True)


if __name__ == "__main__":
    main()
