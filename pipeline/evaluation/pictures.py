"""Pictures of the clips with the most wrong labels."""

import io
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill, wrap
from typing import Any

import numpy as np

from pipeline.evaluation.run import WRONG, BadClip, Evaluation
from schemas.files import write_whole

EXACT, LABEL, HIDDEN = "#1b9e77", "#d7301f", "#fdae61"
KINDS = ("png", "pdf", "svg", "jpg")
PANEL_INCHES, LETTERS_AN_INCH = 3.2, 14


def check_name(path: Path) -> None:
    """Check that a picture can be written under that name.

    Raises:
        ValueError: it cannot.
    """
    if path.suffix.lower().lstrip(".") not in KINDS:
        raise ValueError(f"a picture's name must end in {', '.join(f'.{k}' for k in KINDS)}, found {path}")


def write_worst_clips(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write one figure with a row of the worst clips of each evaluated choice.

    Raises:
        ValueError: files with this ending cannot be written.
        OSError: it cannot be written.
    """
    check_name(path)
    buffer = io.BytesIO()
    draw_worst_clips([e for e in evaluations if e.worst]).savefig(
        buffer, format=path.suffix.lower().lstrip("."), dpi=100
    )
    write_whole(path, buffer.getvalue())


def draw_worst_clips(evaluations: Sequence[Evaluation]) -> Any:
    """The matplotlib figure: last frames, with the exact and the labelled path of every wrong point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max((len(e.worst) for e in evaluations), default=1)
    rows = max(len(evaluations), 1)
    figure = Figure(figsize=(PANEL_INCHES * columns, 3.9 * rows + 0.6), layout="constrained")
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
        f"The clips with the most labels that are off by more than {100 * WRONG:g} cm. Over the last frame, of those: "
        "exact path green, label red, orange where the point is hidden"
    )
    figure.suptitle(fill(legend, max(40, int(LETTERS_AN_INCH * PANEL_INCHES * columns))), fontsize=9)
    return figure


def _draw(axes: Any, clip: BadClip) -> None:
    window, scores = clip.window, clip.window.scores
    axes.imshow(clip.last)
    height, width = clip.last.shape[:2]
    wrong = scores.kept & (scores.error > WRONG)
    for point in np.flatnonzero(wrong.any(axis=1)):
        exact, label = (flow.uvz[point, :, :2] * [width, height] - 0.5 for flow in (window.exact, window.label))
        valid = window.label.valid[point]
        axes.plot(*exact.T, color=EXACT, linewidth=0.8)
        axes.plot(*label[valid].T, color=LABEL, linewidth=0.8)
        steps = np.flatnonzero(wrong[point]) + 1
        seen = window.exact.visible[point, steps]
        for which, colour in ((seen, LABEL), (~seen, HIDDEN)):
            axes.plot(*label[steps[which]].T, ".", color=colour, markersize=2.5)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_title(title_of(clip), fontsize=7, loc="left", parse_math=False)


def title_of(clip: BadClip) -> str:
    """The window's name, in lines that fit over its panel, and the number of wrong labels."""
    window = clip.window
    labels = int(np.count_nonzero(window.scores.kept))
    name = wrap(f"{window.episode.rsplit('/')[-1]}, frame {window.reference}", int(LETTERS_AN_INCH * PANEL_INCHES))
    return "\n".join([*name, f"{clip.wrong:,} of {labels:,} labels wrong"])
