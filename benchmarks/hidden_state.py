"""What the state that guides the policy tells: a linear probe of it, before and after stage 1, beside the features.

    python benchmarks/hidden_state.py RUN [--data SHARDS] [--threads 1]

Ridge regression, its strength chosen on episodes of the training split, from (1) the backbone's features, (2) the
hidden state after one denoising step with the weights of before the first step, (3) the same after stage 1, to the
motion (mean distance of moving points over that of "nothing moves") and to the next ten actions (root of the mean
squared error over that of always the mean action). 1 knows nothing. If (3) is not better than (1), guidance by it tells
the policy nothing new.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from machine import at_least_one, describe
from motion_run import load_run, windows_of

from lamp_model.data.loader import Loader
from lamp_model.networks.motion_expert import MotionExpert
from lamp_model.training.linear_probe import STRENGTHS, Ridge, chosen_strength, predict
from lamp_model.training.rollout_error import groups_of
from lamp_model.training.stages import MotionStage
from lamp_model.training.survey import SPREAD, aligned

STEPS = 4
ACTIONS = 10
MOST = 2048


class Windows:
    """Features, hidden states and what they should tell, over windows."""

    def __init__(self, stage: MotionStage, fresh: MotionExpert, loader: Loader, most: int):
        numbers = loader.numbers[np.unique(np.linspace(0, len(loader.numbers) - 1, most).round().astype(int))]
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
        self.episodes = np.unique(loader.shards.index["episode"][numbers], return_inverse=True)[1]


def probe(fitted: Windows, judged: Windows, name: str) -> tuple[float, float]:
    """Errors on motion and actions of ridge regression from one kind of state."""
    x, new = fitted.seen[name], judged.seen[name]
    width = min(x.shape[1], new.shape[1])
    mean, deviation = x[:, :width].mean(0), x[:, :width].std(0)
    scale = deviation + SPREAD * x.std()
    x, new = (x[:, :width] - mean) / scale, (new[:, :width] - mean) / scale
    ridge, inner = Ridge(x @ x.T), new @ x.T
    all_rows = np.arange(len(x))

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

    found = []
    targets = (
        (fitted.truth.flatten(1), motion_error),
        (((fitted.actions - actions_mean) / actions_scale).flatten(1), action_error),
    )
    for target, error in targets:
        strength = chosen_strength(
            ridge,
            fitted.episodes.tolist(),
            target,
            lambda rows, numbers, error=error: error(rows, fitted, torch.from_numpy(numbers)),
        )
        rows = predict(ridge.weights(all_rows, inner, strength), target)
        found.append(error(rows, judged, torch.arange(len(rows))))
    return found[0], found[1]


def main() -> None:
    """Probe the three and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
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
    fitted, judged = (Windows(stage, fresh, loader, MOST) for loader in (training, held_out))
    print(f"fitted on {len(fitted.truth)} windows, judged on {len(judged.truth)}; strengths {STRENGTHS}")
    print("| from | motion, moving points | next 10 actions |\n|---|---|---|")
    labels = {
        "features": "features of the backbone",
        "before": "hidden state before stage 1",
        "after": "hidden state after stage 1",
    }
    for name, label in labels.items():
        motion, actions = probe(fitted, judged, name)
        print(f"| {label} | {motion:.3f} | {actions:.3f} |", flush=True)


if __name__ == "__main__":
    main()
