"""How far the actions of a policy are from those of demonstrations that it never saw, episode by episode.

    python benchmarks/action_error.py RUN --data SHARDS [--windows 512] [--output FILE] [--threads 1]

Whole chunks are predicted as when the policy acts, and compared with the recorded ones: the mean absolute error of
normalised actions (1 is half the range of the training set), beside that of always predicting the mean action. Windows
are spread evenly; their noise depends on their order alone, so that policies on the same shards can be paired.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from machine import at_least_one, describe

from lamp_model.data.dataset import TrainingData
from lamp_model.data.embodiments import embodiments_of
from lamp_model.data.loader import Loader
from lamp_model.storage import run_folder
from lamp_model.training.data_setup import loaders
from lamp_model.training.rng import Purpose, generator
from lamp_model.training.stages import PolicyStage
from lamp_model.training.survey import spread
from lamp_model.training.tally import merged
from schemas.files import write_whole

ERRORS = ("action_error", "mean_action_error")


def load_policy_run(folder: Path, data: TrainingData) -> tuple[PolicyStage, Loader]:
    """A finished run of stage 2 in evaluation mode, and all windows of other shards for it."""
    model, config = run_folder.load_model(folder)
    model.place(torch.device("cpu"))
    statistics = run_folder.read_statistics(folder)
    embodiments = embodiments_of(statistics, data.embodied[0].name, config.data.normalisation)
    everything = np.arange(len(data)), np.zeros(0, int)
    loader = loaders(data, everything, config.model, config.data, config.training, 1)[0]
    return PolicyStage(model.eval(), embodiments), loader


@torch.no_grad()
def errors_by_episode(stage: PolicyStage, loader: Loader, windows: int) -> dict[str, dict[str, float]]:
    """For each episode its numbers of actions' values and the mean errors over them."""
    chosen = loader.numbers[spread(len(loader.numbers), windows)]
    episodes = loader.shards.index["episode"][chosen]
    found = {}
    for number, episode in enumerate(np.unique(episodes)):
        chance = generator(torch.device("cpu"), 0, Purpose.VALIDATION, number)
        tally = merged(stage.evaluate(b, chance).as_json() for b in loader.in_order(chosen[episodes == episode]))
        means = tally.means()
        found[bytes(episode).decode()] = {name: means[name] for name in ERRORS} | {"values": tally.counts[ERRORS[0]]}
    return found


def main() -> None:
    """Measure and print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--windows", type=at_least_one, default=512)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--threads", type=at_least_one, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    stage, loader = load_policy_run(args.run, TrainingData(args.data))
    found = errors_by_episode(stage, loader, args.windows)
    weights = [one["values"] for one in found.values()]
    means = {name: float(np.average([one[name] for one in found.values()], weights=weights)) for name in ERRORS}
    print(f"{args.run}: {len(found)} episodes, action error {means['action_error']:.4f}, "
          f"the mean action {means['mean_action_error']:.4f}")  # fmt: skip
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        written = {"run": str(args.run), "data": str(args.data), **means, "episodes": found, "machine": describe()}
        write_whole(args.output, json.dumps(written, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
