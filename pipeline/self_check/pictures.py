"""A sheet of the windows with the most doubtful points."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill, wrap
from typing import Any

import numpy as np

from pipeline.evaluation.pictures import check_name
from pipeline.self_check.doubts import DOUBTED_PX, Doubts, doubts
from pipeline.self_check.windows import MOVES_PX, SIDE, CheckedWindow
from pipeline.vision.figure_files import write_figure

GOOD, STRAY, DRIFT, DISAGREE = "#1b9e77", "#d7301f", "#fdae61", "#e7298a"
PANEL_INCHES, LETTERS_AN_INCH, LINE_INCHES, MOST_COLUMNS = 4.2, 15, 0.15, 3


def write_doubtful(path: Path, windows: Sequence[CheckedWindow]) -> None:
    """Write the sheet.

    Raises:
        ValueError: files with this ending cannot be written.
        OSError: it cannot be written.
    """
    check_name(path)
    write_figure(path, draw_doubtful(windows))


def draw_doubtful(windows: Sequence[CheckedWindow]) -> Any:
    """The matplotlib figure: reference frames with the paths of all points that move and of all that are doubted."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(max(len(windows), 1), MOST_COLUMNS)
    rows = -(-max(len(windows), 1) // columns)
    titles = [title_of(window) for window in windows]
    lines = max((title.count("\n") + 1 for title in titles), default=1)
    tall = PANEL_INCHES * max((w.picture.shape[0] / w.picture.shape[1] for w in windows), default=0.75)
    width = (PANEL_INCHES + 0.15) * columns
    legend = fill(_legend(), int(LETTERS_AN_INCH * width))
    above = 0.15 + LINE_INCHES * (legend.count("\n") + 1)
    high = tall + LINE_INCHES * lines + 0.2
    height = above + high * rows
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.1 / width, 1 - 0.08 / height, legend, fontsize=9, va="top", parse_math=False)
    for place, (window, title) in enumerate(zip(windows, titles, strict=True)):
        left = 0.08 + (PANEL_INCHES + 0.15) * (place % columns)
        bottom = height - above - high * (place // columns + 1) + 0.05
        axes = figure.add_axes((left / width, bottom / height, PANEL_INCHES / width, tall / height))
        _draw(axes, window)
        axes.set_title(title, fontsize=8, loc="left", parse_math=False, pad=4)
    return figure


def _draw(axes: Any, window: CheckedWindow) -> None:
    from matplotlib.collections import LineCollection

    height, width = window.picture.shape[:2]
    grey = window.picture.mean(axis=-1, keepdims=True)
    axes.imshow(np.clip((0.6 * window.picture + 0.4 * grey) * 0.8 / 255, 0, 1))
    found = doubts(window)
    trusted = window.moving & ~np.any([*found.stray.values(), found.disagree], axis=0)
    groups = [(trusted, GOOD, 0.8), (found.disagree, DISAGREE, 1.1)]
    groups += [(np.any(list(found.stray.values()), axis=0), STRAY, 1.1)]
    groups += [(np.any(list(found.drift.values()), axis=0), DRIFT, 1.1)]
    for points, colour, thick in groups:
        paths = [
            tracks.uv[point, tracks.visible[point]] - 0.5
            for tracks in window.tracks.values()
            for point in np.flatnonzero(points & (tracks.visible.sum(axis=1) > 1))
        ]
        axes.add_collection(LineCollection(paths, colors=colour, linewidths=thick))
        ends = np.array([path[-1] for path in paths]).reshape(-1, 2)
        axes.scatter(*ends.T, s=4, c=colour, linewidths=0)
        starts = next(iter(window.tracks.values())).uv[points, 0] - 0.5
        axes.scatter(*starts.T, s=5, c="white", edgecolors=colour, linewidths=0.5, zorder=3)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.axis("off")


def title_of(window: CheckedWindow) -> str:
    """The window's name and what is doubted of how many, in lines that fit over a panel."""
    found = doubts(window)
    letters = int(LETTERS_AN_INCH * PANEL_INCHES)
    name = wrap(f"{window.episode}, frame {window.reference}, {window.steps} steps", letters)
    return "\n".join([*name, *(line for said in _said(window, found) for line in wrap(said, letters))])


def _said(window: CheckedWindow, found: Doubts) -> list[str]:
    lines = []
    for name, stray in found.stray.items():
        reached = int((~np.isnan(window.returned[name])).sum())
        line = f"{name}: {int(stray.sum())} of {reached} tracks do not return"
        if window.background is not None:
            line += f", {int(found.drift[name].sum())} of {int(window.background.sum())} still points move"
        lines.append(line)
    if len(window.tracks) > 1:
        lines.append(f"{int(found.disagree.sum())} of {int(found.both.sum())} points that two trackers see are apart")
    return lines


def _legend() -> str:
    return (
        "The windows with the most doubtful points, on their first frames; a ring is a point's start, a dot where it "
        "was last seen; a line for each tracker. Red: followed to the end and back it is off by more than "
        f"{DOUBTED_PX:g} px (of {SIDE}), or lost. Pink: two trackers are {DOUBTED_PX:g} px apart. Orange: moved by "
        f"more than {MOVES_PX:g} px though the pictures show that it stands still. Green: other points that move."
    )
