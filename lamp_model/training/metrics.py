"""Curves: one JSON object per line during training, a plot at the end."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamp_model.training.tracking import Trackers
from schemas.files import write_whole, written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATIOS = ("first_px_moving", "rollout_px_moving", "still_px_moving", "probe_px_moving")
"""What is drawn of the error on moving points, over that of "nothing moves"."""


class MetricsLog:
    """Appends to ``metrics.jsonl``; lines of steps that a resumed run repeats are dropped when it is opened.

    Attributes:
        done: steps that the run had done when this was opened.
        trackers: get a copy of every line.
    """

    def __init__(self, path: Path, done: int, trackers: Trackers | None = None):
        """Open for a run that has done so many steps."""
        self.path, self.done, self.trackers = path, done, trackers or Trackers()
        kept = [line for line in read_metrics(path) if line["step"] <= done]
        write_whole(path, b"".join(_line(values) for values in kept))

    def write(self, **values: Any) -> None:
        """Append a line and flush it, so that it can be followed."""
        with open(self.path, "ab") as file:
            file.write(_line(values))
        self.trackers.write(values["step"], {name: value for name, value in values.items() if name != "step"})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a line that a killed run left half written is skipped."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_bytes().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def draw_curves(metrics: Path, picture: Path, title: str) -> None:
    """Plot training and validation loss over the steps, and the stage's other metrics: errors of actions, or for motion
    the error on moving points divided by that of "nothing moves"."""
    figure = figure_of(read_metrics(metrics), title)
    with written_whole(picture) as file:
        figure.savefig(file, format="png", dpi=110)


def figure_of(lines: list[dict[str, Any]], title: str) -> "Figure":
    """The figure that ``draw_curves`` saves."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("agg")
    ratios = _ratios(lines)
    errors = sorted({k for line in lines for k in line if k.startswith(("action_error", "mean_action_error"))})
    plots = 2 if errors or ratios else 1
    figure = Figure(figsize=(5.5 * plots, 4.5))
    axes = figure.subplots(1, plots, squeeze=False)[0]
    # matplotlib's automatic layouts draw everything twice or more, which takes longer than a short run.
    figure.subplots_adjust(left=0.15 / plots, right=0.98, bottom=0.27, top=0.93, wspace=0.2)
    for name, label in (("loss", "training loss"), ("val_loss", "validation loss")):
        _draw(axes[0], lines, name, label)
    axes[0].set(xlabel="step", ylabel="flow matching loss", title=title, yscale="log")
    for name in errors or (RATIOS if ratios else ()):
        _draw(axes[-1], lines if errors else ratios, name, *_look_of(name))
    if errors or ratios:
        unit = "mean error, normalised" if errors else "error on points that move / nothing moves"
        axes[-1].set(xlabel="step", ylabel=unit, title="held-out episodes")
        axes[-1].set_ylim(bottom=0)
    for axis in axes:
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            # Below the plot: inside it covers the curves, which may run anywhere.
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    return figure


def _ratios(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors on moving points divided by that of "nothing moves", for lines with motion metrics."""
    found = []
    for line in lines:
        still = line.get("still_px_moving")
        if still:
            found.append({"step": line["step"], **{name: line[name] / still for name in RATIOS if name in line}})
    return found


def _look_of(name: str) -> tuple[str, str]:
    """Label and line style of an error. Baselines are dashed, in the colour of the error they are compared with."""
    labels = {
        "first_px_moving": ("first step's estimate", "C0-"),
        "rollout_px_moving": ("rollout", "C1-"),
        "still_px_moving": ("nothing moves", "C1--"),
        "probe_px_moving": ("linear probe", "C2--"),
        "action_error": ("generated actions", "C0-"),
        "mean_action_error": ("the data's mean action", "C0--"),
    }
    return labels.get(name, (name.replace("_", " "), "-"))


def _draw(axis, lines: list[dict[str, Any]], name: str, label: str, style: str = "-") -> None:
    points = [(line["step"], line[name]) for line in lines if name in line]
    if points:
        axis.plot(*zip(*points, strict=True), style, label=label, marker="." if len(points) < 40 else "")


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"
