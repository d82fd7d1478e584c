"""A contact sheet of a dataset's episodes: first, middle and last frame of each camera, with the tool drawn where the
calibration projects it.

A calibration can pass its checks and still be wrong by several centimetres. The tool's position drawn over the picture
makes this visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.inspection.pictures import FAINT, INK, check_picture_path
from pipeline.inspection.terminal import printable
from pipeline.vision.figure_files import write_figure
from schemas.cameras import invert_pose, project, transform
from schemas.episode import BadEpisode, CameraView, Episode

MOST_EPISODES = 6
TOOL = "#ff2d95"
RING = "ring: the tool, where its recorded position, the camera's pose and its intrinsics put it"
NO_POSE = "no camera's pose is known, so the tool is not drawn"
CELL_INCHES, TITLES_INCHES, LINE_INCHES = 1.9, 0.42, 0.15
LETTERS_AN_INCH = 13
"""Most characters per inch in a line above an episode's pictures."""
MOST_LETTERS = 400
"""Most characters of the text about an episode: instructions may be of any length."""


@dataclass(frozen=True)
class Cell:
    """One frame of a camera, or why there is none.

    Attributes:
        tools: pixel positions of the tools that are in the picture.
    """

    image: UInt8[np.ndarray, "H W 3"] | None
    tools: Float[np.ndarray, "N 2"]
    words: str


def moments(length: int) -> list[int]:
    """Numbers of the first, middle and last frame."""
    return sorted({0, length // 2, length - 1})


def tools_in_view(episode: Episode, view: CameraView, frame: int) -> Float[np.ndarray, "N 2"] | None:
    """Positions of the tools in a frame, px with pixel centres at +0.5; only those inside the picture. None if they are
    not known.
    """
    tools, poses, intrinsics = episode.tool_positions, view.world_from_camera, view.intrinsics
    if tools is None or poses is None or intrinsics is None:
        return None
    pose = poses[frame if len(poses) > 1 else 0]
    uv = project(transform(invert_pose(pose), tools[:, frame].astype(np.float64)), intrinsics)[:, :2]
    with np.errstate(invalid="ignore"):
        return uv[((uv >= 0) & (uv <= view.size)).all(axis=1)]


def cells_of(episode: Episode, view: CameraView) -> list[Cell]:
    """A camera's three frames.

    Raises:
        BadEpisode: its pictures cannot be decoded.
    """
    numbers, cells = moments(view.length), []
    for number, image in zip(numbers, view.some_frames(np.array(numbers)), strict=True):
        tools = tools_in_view(episode, view, number)
        words = "" if tools is None else "" if len(tools) else ", tool not in view"
        cells.append(Cell(image, np.zeros((0, 2)) if tools is None else tools, f"frame {number}{words}"))
    return cells


def write_contact_sheet(path: Path, title: str, episodes: Sequence[Episode]) -> list[tuple[str, str]]:
    """Draw the episodes (at most six of them, evenly spread) and write the picture atomically.

    Returns:
        Code and sentence of each fault that decoding found.

    Raises:
        CannotInspect: the name has no ending of a picture format that can be written.
        OSError: the file cannot be written.
    """
    check_picture_path(path)
    chosen = np.linspace(0, len(episodes) - 1, min(len(episodes), MOST_EPISODES)).round().astype(int)
    figure, faults = draw_contact_sheet(title, [episodes[number] for number in chosen])
    write_figure(path, figure)
    return faults


def draw_contact_sheet(title: str, episodes: Sequence[Episode]) -> tuple[Any, list[tuple[str, str]]]:
    """The sheet as a matplotlib figure with a row for each episode, and the faults that decoding found."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cameras = list(dict.fromkeys(name for episode in episodes for name in episode.views))
    width = CELL_INCHES * 3 * max(len(cameras), 1) + 0.2
    tall = max((v.size[1] / v.size[0] for e in episodes for v in e.views.values()), default=1.0)
    known = any(tools_in_view(e, v, 0) is not None for e in episodes for v in e.views.values())
    head = [*_lines(title, width * 0.7), *_lines(RING if known else NO_POSE, width)]
    words = [_lines(_words_of(episode), width) for episode in episodes]
    picture = CELL_INCHES * min(tall, 1.6)
    rows = [picture + TITLES_INCHES + LINE_INCHES * len(lines) for lines in words]
    height = sum(rows) + 0.25 + 0.2 * len(head)
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    legend = len(_lines(RING if known else NO_POSE, width))
    for number, line in enumerate(head):
        look = {"fontsize": 8, "color": TOOL} if number >= len(head) - legend else {"fontsize": 11, "color": INK}
        figure.text(0.1 / width, 1 - (0.22 + 0.2 * number) / height, line, parse_math=False, **look)
    faults: list[tuple[str, str]] = []
    top = height - 0.2 - 0.2 * len(head)
    for episode, lines, row in zip(episodes, words, rows, strict=True):
        for number, line in enumerate(lines):
            down = (top - 0.12 - LINE_INCHES * number) / height
            figure.text(0.1 / width, down, line, fontsize=8, color=INK, parse_math=False)
        top -= row
        faults += _draw_row(figure, episode, cameras, top + 0.05, picture)
    return figure, faults


def _draw_row(
    figure: Any, episode: Episode, cameras: Sequence[str], bottom: float, picture: float
) -> list[tuple[str, str]]:
    """Draw the frames of an episode; returns the faults that decoding found.

    Args:
        bottom: height of the pictures' lower edge above the figure's lower edge, in inches.
        picture: their height in inches.
    """
    width, height = figure.get_size_inches()
    faults: list[tuple[str, str]] = []
    for place, name in enumerate(cameras):
        if name not in episode.views:
            continue
        view = episode.views[name]
        try:
            cells = cells_of(episode, view)
        except BadEpisode as error:
            faults.append((error.code, str(error)))
            cells = [Cell(None, np.zeros((0, 2)), f"{name}: {error.code}")]
        for moment, cell in enumerate(cells):
            left = 0.1 + CELL_INCHES * (3 * place + moment)
            box = (left / width, bottom / height, 0.97 * CELL_INCHES / width, picture / height)
            _draw(figure.add_axes(box), cell, _known(view) if moment == 0 else "")
    return faults


def _words_of(episode: Episode) -> str:
    outcome = {True: ", successful", False: ", not successful", None: ""}[episode.success]
    said = " / ".join(repr(text) for text in episode.instructions) or "no instruction"
    return f"{episode.ref.name}: {episode.length} frames at {episode.fps:g} a second{outcome}; {said}"


def _lines(words: str, width: float) -> list[str]:
    """Wrap a text into lines of ``width`` inches; a very long text is shortened and ends in an ellipsis."""
    words = printable(words).replace("\n", " ")
    words = words if len(words) <= MOST_LETTERS else f"{words[: MOST_LETTERS - 1]}…"
    return wrap(words, max(20, int(LETTERS_AN_INCH * width))) or [""]


def _known(view: CameraView) -> str:
    known = [word for word, there in (("K", view.intrinsics), ("pose", view.world_from_camera)) if there is not None]
    return f"{printable(view.name)}, {' and '.join(known) or 'no K, no pose'}\n"


def _draw(axes: Any, cell: Cell, before: str) -> None:
    axes.set_axis_off()
    axes.set_anchor("N")
    words = before + printable(cell.words)
    axes.set_title(words, fontsize=6, color=FAINT, loc="left", pad=2, parse_math=False)
    if cell.image is None:
        return
    axes.imshow(cell.image, interpolation="bilinear")
    height, width = cell.image.shape[:2]
    for u, v in cell.tools:  # matplotlib puts the centre of the first pixel at 0
        axes.plot(
            u - 0.5, v - 0.5, "o", markersize=9, markerfacecolor="none", markeredgecolor=TOOL, markeredgewidth=1.6
        )
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
