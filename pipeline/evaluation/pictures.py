"""Pictures of the bodies with the most wrong labels."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill, wrap
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.evaluation.by_body import WRONG
from pipeline.evaluation.report import counted
from pipeline.evaluation.run import BadBody, Evaluation
from pipeline.vision.figure_files import write_figure

EXACT, LABEL, HIDDEN = "#1b9e77", "#d7301f", "#fdae61"
KINDS = ("png", "pdf", "svg", "jpg")
PANEL_INCHES, LETTERS_AN_INCH = 3.2, 14
PANEL_LETTERS = int(PANEL_INCHES * LETTERS_AN_INCH)
LEAST_SHOWN = 0.3
"""Smallest part of the picture that is shown around a body, as a share of its width."""


def check_name(path: Path) -> None:
    """Check that a picture can be written under that name.

    Raises:
        ValueError: it cannot.
    """
    if path.suffix.lower().lstrip(".") not in KINDS:
        raise ValueError(f"a picture's name must end in {', '.join(f'.{k}' for k in KINDS)}, found {path}")


def write_worst_bodies(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write one figure with a row of the worst bodies of each evaluated choice.

    Raises:
        ValueError: files with this ending cannot be written.
        OSError: it cannot be written.
    """
    check_name(path)
    write_figure(path, draw_worst_bodies([e for e in evaluations if e.worst]), dpi=100)


def draw_worst_bodies(evaluations: Sequence[Evaluation]) -> Any:
    """The matplotlib figure: frames around each body, with the exact and the labelled path of every wrong point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max((len(e.worst) for e in evaluations), default=1)
    rows = max(len(evaluations), 1)
    figure = Figure(figsize=(PANEL_INCHES * columns, 4.5 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    bands = figure.subfigures(rows, 1, squeeze=False)[:, 0]
    for band, evaluation in zip(bands, evaluations, strict=False):
        chosen = wrap(
            f"{evaluation.truth}: {evaluation.choice}", max(30, int(LETTERS_AN_INCH * PANEL_INCHES * columns))
        )
        band.suptitle("\n".join(chosen), fontsize=8, x=0.01, ha="left", weight="bold")
        axes = band.subplots(1, columns, squeeze=False)[0]
        for column, panel in enumerate(axes):
            panel.axis("off")
            if column < len(evaluation.worst):
                _draw(panel, evaluation.worst[column])
    legend = (
        f"The bodies with the most labels that are off by more than {100 * WRONG:g} cm, at their worst step. Green "
        "dot: where a labelled point truly is; red cross: its label, orange where the point is hidden; lines: paths of "
        "points with wrong labels, exact green, labelled red"
    )
    figure.suptitle(fill(legend, max(40, int(LETTERS_AN_INCH * PANEL_INCHES * columns))), fontsize=9)
    return figure


def _draw(axes: Any, bad: BadBody) -> None:
    window, scores = bad.found.window, bad.found.window.scores
    height, width = bad.frame.shape[:2]
    exact, label = (flow.uvz[..., :2] * [width, height] - 0.5 for flow in (window.exact, window.label))
    axes.imshow(bad.frame)
    wrong = scores.kept & (np.nan_to_num(scores.error) > WRONG) & bad.found.points[:, None]
    moves = bad.found.body is not None and bad.found.body.kind != "static"
    for point in np.flatnonzero(bad.found.points & (wrong.any(axis=1) | moves)):
        until = slice(0, bad.step + 1)
        if wrong[point].any():
            valid = window.label.valid[point, until]
            axes.plot(*exact[point, until].T, color=EXACT, linewidth=0.8)
            axes.plot(*label[point, until][valid].T, color=LABEL, linewidth=0.8)
        if window.label.valid[point, bad.step]:
            here, there = exact[point, bad.step], label[point, bad.step]
            axes.plot(*zip(here, there, strict=True), color=LABEL, linewidth=0.6)
            axes.plot(*here, "o", color=EXACT, markersize=2.5)
            colour = LABEL if window.exact.visible[point, bad.step] else HIDDEN
            axes.plot(*there, "x", color=colour, markersize=3.5, markeredgewidth=0.8)
    (left, right), (top, bottom) = around(bad, exact, label)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_title(title_of(bad), fontsize=7, loc="left", parse_math=False)


def around(
    bad: BadBody, exact: Float[np.ndarray, "K S 2"], label: Float[np.ndarray, "K S 2"]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The part of the picture that is shown, left and right, top and bottom, in px: a square around the body's wrong
    labels and where its points should be.
    """
    height, width = bad.frame.shape[:2]
    labelled = bad.found.points & bad.found.window.label.valid[:, bad.step]
    corners = np.concatenate([exact[labelled, bad.step], label[labelled, bad.step]])
    if bad.found.body is None or not len(corners):
        return (-0.5, width - 0.5), (-0.5, height - 0.5)
    low, high = (np.clip(edge, 0, [width, height]) for edge in (corners.min(axis=0), corners.max(axis=0)))
    side = min(max(1.4 * (high - low).max(), LEAST_SHOWN * width), width, height)
    start = np.clip((low + high - side) / 2, -0.5, [max(width - side, 0) - 0.5, max(height - side, 0) - 0.5])
    return (float(start[0]), float(start[0] + side)), (float(start[1]), float(start[1] + side))


def title_of(bad: BadBody) -> str:
    """Clip, body and number of wrong labels, in lines that fit over its panel."""
    body = bad.found
    kind = "" if body.body is None else f"{body.body.name} ({body.body.kind}), "
    named = [line for words in (body.clip, f"{kind}step {bad.step}") for line in wrap(words, PANEL_LETTERS)]
    return "\n".join([*named, *wrap(counted(body), PANEL_LETTERS)])
