"""The table and the picture of docs/learning.md, from what ``motion_error.py --results`` wrote.

    python benchmarks/learning_curve.py [benchmarks/results/learning.jsonl] [--picture docs/learning-curve.png]

Errors are over that of "nothing moves" on the same windows. The picture shows them over the demonstrations of the runs
with the commonest number of steps, and over the steps of the runs with the commonest number of demonstrations: a mark
for each run, a line through the means over seeds.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results" / "learning.jsonl"
SHOWN = {"first": "first step", "rollout": "rollout", "probe": "linear probe"}
COLOURS = {"first": "tab:blue", "rollout": "tab:orange", "probe": "0.45"}
STYLES = ("-", "--", ":")
MARKS = ("o", "x", "+")
TARGETS = {"first": 0.4, "rollout": 0.5}
WANTED = ("first", "rollout", "mean", "best", "probe")

Run = dict[str, Any]


def read_runs(path: Path) -> list[Run]:
    """The runs whose errors were measured, smaller networks and fewer demonstrations first."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    runs = [line for line in lines if "errors_px" in line]
    return sorted(runs, key=lambda run: (run["parameters"], run["episodes"], run["steps"], run["seed"]))


def ratio(run: Run, group: str, name: str) -> float:
    """An error over that of nothing moves."""
    return run["errors_px"][group][name] / run["errors_px"][group]["still"]


def print_table(runs: Sequence[Run]) -> None:
    """A row for each run, moving points before all points."""
    for group in ("moving", "all"):
        print(f"\n{group} points, over nothing moves ({runs[0]['errors_px'][group]['still']:.3g} px)\n")
        print("| parameters | demonstrations | windows | steps | seed | " + " | ".join(WANTED) + " |")
        print("|---" * (5 + len(WANTED)) + "|")
        for run in runs:
            sizes = f"{run['parameters'] / 1e6:.2f} M | {run['episodes']} | {run['windows']:,} | {run['steps']:,}"
            told = " | ".join(
                f"{ratio(run, group, name):.3f}" if name in run["errors_px"][group] else "" for name in WANTED
            )
            print(f"| {sizes} | {run['seed']} | {told} |")
    print("\npoints that stand still, px\n")
    for run in runs:
        standing = run["errors_px"]["standing"]
        print(f"{run['run']}: " + ", ".join(f"{name} {value:.3f}" for name, value in standing.items()))


def draw(axes: "Axes", runs: Sequence[Run], along: str, group: str) -> None:
    """Errors of one group of points along a size of the runs, a style of line for each size of the network."""
    sizes = sorted({run["parameters"] for run in runs})
    series = [(name, STYLES[0], MARKS[0], runs, "") for name in SHOWN if name == "probe"]  # it has no size
    for style, mark, parameters in zip(STYLES, MARKS, sizes, strict=False):
        mine = [run for run in runs if run["parameters"] == parameters]
        size = f", {parameters / 1e6:.1f} M"
        series += [(name, style, mark, mine, size) for name in SHOWN if name != "probe"]
    for name, style, mark, mine, size in series:
        places = sorted({run[along] for run in mine})
        means = [np.mean([ratio(run, group, name) for run in mine if run[along] == place]) for place in places]
        axes.plot(places, means, style, color=COLOURS[name])
        every = [ratio(run, group, name) for run in mine]
        axes.plot(
            [run[along] for run in mine], every, mark, color=COLOURS[name], markersize=5, label=SHOWN[name] + size
        )
    for name, target in TARGETS.items() if group == "moving" else {"rollout": 1.0}.items():
        axes.axhline(target, color=COLOURS[name], linewidth=0.6, alpha=0.6)
    axes.set_xscale("log")
    places = sorted({run[along] for run in runs})
    axes.set_xticks(places, [f"{place:,}" for place in places], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"{group} points, over nothing moves")
    axes.grid(alpha=0.25)


def write_picture(path: Path, runs: Sequence[Run]) -> None:
    """Four plots: over demonstrations and over steps, moving points and all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = Counter(run["steps"] for run in runs).most_common(1)[0][0]
    episodes = Counter(run["episodes"] for run in runs).most_common(1)[0][0]
    columns = {
        f"demonstrations ({steps:,} steps)": ("episodes", [run for run in runs if run["steps"] == steps]),
        f"steps ({episodes} demonstrations)": ("steps", [run for run in runs if run["episodes"] == episodes]),
    }
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for column, (title, (along, mine)) in enumerate(columns.items()):
        for row, group in enumerate(("moving", "all")):
            axes = figure.add_subplot(2, 2, 2 * row + column + 1)
            draw(axes, mine, along, group)
            axes.set_xlabel(title)
            if row == column == 0:
                axes.legend(fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Print the table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    runs = read_runs(args.results)
    print_table(runs)
    if args.picture is not None:
        write_picture(args.picture, runs)


if __name__ == "__main__":
    main()
