"""Pictures of the clips with the most wrong labels."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation.run import WRONG, BadClip, Evaluation
from schemas.files import write_whole

EXACT, LABEL, HIDDEN = "#1b9e77", "#d7301f", "#fdae61"
KINDS = ("png", "pdf", "svg", "jpg")


def check_name(path: Path) -> None:
    """Raises:
    ValueError: no picture can be written under that name.
    """
    if path.suffix.lower().lstrip(".") not in KINDS:
        raise ValueError(f"a picture's name must end in {', '.join(f'.{k}' for k in KINDS)}, found {path}")


def write_worst_clips(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """One sheet: for each evaluated choice a row of its worst clips.

    Raises:
        ValueError: the file's ending is none that can be written.
        OSError: it cannot be written.
    """
    check_name(path)
    buffer = io.BytesIO()
    draw_worst_clips([e for e in evaluations if e.worst]).savefig(
        buffer, format=path.suffix.lower().lstrip("."), dpi=100
    )
    write_whole(path, buffer.getvalue())


def draw_worst_clips(evaluations: Sequence[Evaluation]) -> Any:
    """The sheet as a matplotlib figure: last frames,
    with the exact and the labelled path of every point that is wrong.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max((len(e.worst) for e in evaluations), default=1)
    rows = max(len(evaluations), 1)
    figure = Figure(figsize=(3.2 * columns, 3.6 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, evaluation in enumerate(evaluations):
        for column in range(columns):
            axes[row][column].axis("off")
            if column < len(evaluation.worst):
                _draw(axes[row][column], evaluation.worst[column])
        axes[row][0].set_title(
            f"{evaluation.truth}: {evaluation.choice}\n{axes[row][0].get_title('left')}", fontsize=8, loc="left"
        )
    figure.suptitle(
        f"Labels off by more than {100 * WRONG:g} cm over the last frame: exact path green, label red, orange where "
        "the point is hidden",
        fontsize=9,
    )
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
    axes.set_title(
        f"{window.episode.rsplit('/')[-1][-28:]} frame {window.reference}: {clip.wrong} wrong", fontsize=7, loc="left"
    )
