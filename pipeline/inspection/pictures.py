"""Pictures of samples: flow drawn over the image, depth beside it."""

import math
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from pipeline.inspection.colours import DEPTH_MAP, NO_DEPTH, change_colours, nice_limit
from pipeline.inspection.decode import decode_stored_picture
from pipeline.inspection.flow_statistics import MeasuredFlow, measure, positions
from pipeline.inspection.retargeted import RAW, RETARGETED, retargeted
from pipeline.inspection.shard_paths import CannotInspect
from pipeline.vision.figure_files import write_figure
from schemas.triplet import Triplet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#1d2126", "#6b7280"
DARK = "#10141a"
"""Outline of everything that is drawn over an image: flow without depth change is near white and must show on grey."""
KINDS = ("png", "pdf", "svg", "jpg")
PANEL_INCHES, LINE_INCHES = 3.55, 0.165
MOST_LETTERS = 184
"""Characters shown of an instruction above a panel, four lines; data may hold texts of any length."""


def check_picture_path(path: Path) -> None:
    """Raises:
    CannotInspect: the name has no ending of a picture format that can be written.
    """
    if path.suffix.lower().lstrip(".") not in KINDS:
        raise CannotInspect(f"a picture's name must end in {', '.join(f'.{k}' for k in KINDS)}, found {path}")


def write_picture(path: Path, triplets: list[Triplet], both: bool = False) -> None:
    """Write a picture of one sample in full, or a sheet of several. The file is written atomically. Of a sample without
    flow, the sheet shows the image.

    Args:
        both: write a sheet that shows each sample's flow raw and retargeted, side by side.

    Raises:
        CannotInspect: the name has no known ending, or there is no flow that could be retargeted.
        OSError: the file cannot be written.
    """
    check_picture_path(path)
    if both and not all(t.has_flow for t in triplets):
        raise CannotInspect("--retargeted shows flow, and there are samples without: leave it out")
    alone = len(triplets) == 1 and not both and triplets[0].has_flow
    figure = draw_sample(triplets[0]) if alone else draw_sheet(triplets, both)
    write_figure(path, figure)


def draw_sample(t: Triplet) -> "Figure":
    """Draw the image with its flow, the depth at the keypoints, and the wrist image."""
    scale = min(6.2 / t.camera.size[0], 6.8 / t.camera.size[1])
    wide, tall = (max(3.0, scale * side) for side in t.camera.size)
    small, right = (tall - 0.5) / 2, wide + 1.55
    width, height = max(right + 3.85, 8.5), tall + 1.55
    figure = _figure(width, height)

    def box(left: float, bottom: float, wide: float, high: float) -> "Axes":
        return figure.add_axes((left / width, bottom / height, wide / width, high / height))

    measured = measure(t)
    limit = depth_change_limit([(t, measured)])
    axes = box(0.35, 0.5, wide, tall)
    draw_flow(axes, t, measured, limit)
    axes.set_title("flow over the next steps", fontsize=10, color=INK, loc="left", pad=5)
    figure.text(0.35 / width, 0.22 / height, _legend_words(t, measured), color=FAINT, fontsize=9)
    _change_bar(figure, box(wide + 0.47, 0.5, 0.15, tall), limit, t.depth_unit)
    draw_depth(
        figure, box(right, 0.5 + tall - small, 2.85, small), box(right + 2.95, 0.5 + tall - small, 0.15, small), t
    )
    wrist = box(right, 0.5, 2.85, small)
    picture = decode_stored_picture(t.images["wrist"]) if "wrist" in t.images else None
    if picture is not None:
        wrist.imshow(picture, interpolation="bicubic")
    else:
        wrist.text(0, 0.97, "none", ha="left", va="top", color=FAINT, fontsize=10, transform=wrist.transAxes)
    _bare(wrist, "wrist image at the reference frame")
    top = (0.35 / width, (tall + 1.14) / height), (0.35 / width, (tall + 0.86) / height)
    figure.text(*top[0], _plain(title_of(t), int(width * 8.6)), fontsize=14, color=INK, weight="bold", parse_math=False)
    figure.text(*top[1], _plain(source_of(t), int(width * 11.2)), fontsize=9.5, color=FAINT, parse_math=False)
    return figure


def draw_sheet(triplets: list[Triplet], both: bool = False) -> "Figure":
    """Draw the images of several samples with their flow, all on one scale of depth change.

    Args:
        both: draw each sample raw and retargeted, with a dot at every fourth step of the points that move, to show
            their speed.
    """
    drawn = [(t, "") for t in triplets]
    if both:
        drawn = [pair for t in triplets for pair in ((t, RAW), (retargeted(t).triplet, RETARGETED))]
    pairs = [(t, measure(t) if t.has_flow else None) for t, _ in drawn]
    heads = [_head(t, measured, said) for (t, measured), (_, said) in zip(pairs, drawn, strict=True)]
    columns = _columns(len(drawn), 4 if len(drawn) > 6 or both else 3)
    rows = math.ceil(len(drawn) / columns)
    above = 0.14 + LINE_INCHES * max(len(lines) for lines in heads)
    high = PANEL_INCHES * max(t.camera.size[1] / t.camera.size[0] for t in triplets)
    moving = [(t, measured) for t, measured in pairs if measured is not None]
    beside = 0.95 if moving else 0.05
    width, height = 0.25 + (PANEL_INCHES + 0.2) * columns + beside, (above + high + 0.12) * rows + 0.1
    figure = _figure(width, height)
    limit = depth_change_limit(moving)
    for place, ((t, measured), lines) in enumerate(zip(pairs, heads, strict=True)):
        left = 0.25 + (PANEL_INCHES + 0.2) * (place % columns)
        bottom = height - (above + high + 0.12) * (place // columns + 1) + 0.06
        axes = figure.add_axes((left / width, bottom / height, PANEL_INCHES / width, high / height))
        if measured is None:
            _draw_image(axes, t)
        else:
            draw_flow(axes, t, measured, limit)
        if both and measured is not None:
            draw_steps(axes, t, measured)
        for number, (words, look) in enumerate(lines):
            up = (bottom + high + 0.07 + LINE_INCHES * (len(lines) - 1 - number)) / height
            figure.text(left / width, up, words, parse_math=False, **look)
    if not moving:
        return figure
    units = {t.depth_unit for t, _ in moving}
    bar = figure.add_axes((1 - 0.9 / width, 0.18 / height, 0.16 / width, 1 - (0.26 + above) / height))
    _change_bar(figure, bar, limit, units.pop() if len(units) == 1 else "unit of each")
    return figure


def _columns(count: int, most: int) -> int:
    """Number of columns: at most ``most``, and no more than are needed for the same number of rows."""
    return math.ceil(count / math.ceil(count / most))


def _draw_image(axes: "Axes", t: Triplet) -> None:
    """The image of a sample without flow."""
    width, height = t.camera.size
    picture = decode_stored_picture(t.images["image"])
    if picture is not None:
        axes.imshow(picture, extent=(0, width, height, 0), interpolation="bicubic")
    _bare(axes, "")


def _head(t: Triplet, measured: MeasuredFlow | None, said: str) -> list[tuple[str, dict[str, Any]]]:
    """The lines above a panel with their text style: the instruction, and the sample's source with its file."""
    moving = "no flow" if measured is None else f"{measured.moving.sum()} of {len(measured.moving)} points move"
    source = f"{_plain(Path(t.source.file).name, 56)}, {t.source.episode}, frame {t.source.frame}: {said or moving}"
    title = wrap(_plain(title_of(t), MOST_LETTERS), 46)
    return [(line, {"fontsize": 9.5, "color": INK}) for line in title] + [
        (line, {"fontsize": 8, "color": FAINT}) for line in wrap(_plain(source, MOST_LETTERS), 58)
    ]


def draw_flow(axes: "Axes", t: Triplet, measured: MeasuredFlow, limit: float) -> None:
    """Draw the image and each point's path: solid where visible, dotted where hidden, absent where not valid."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    width, height = t.camera.size
    picture = decode_stored_picture(t.images["image"])
    if picture is not None:
        axes.imshow(_calm(picture), extent=(0, width, height, 0), interpolation="bicubic")
    uvz, still = positions(t), ~np.any(measured.displacement, axis=(1, 2))
    start = uvz[:, 0]
    known = t.flow.valid[:, 0]
    axes.scatter(*start[still & known, :2].T, s=4, c="#ffffff", edgecolors=DARK, linewidths=0.5, zorder=2)
    segments, change, solid = _segments(t, uvz, measured)
    norm = Normalize(-limit, limit)
    for lines, style, thick in ((~solid, (0, (1, 1.6)), 1.0), (solid, "solid", 1.5)):
        for colours, extra in (({"colors": DARK, "alpha": 0.8}, 1.3), ({"array": change[lines]}, 0.0)):
            shape = {"linewidths": thick + extra, "linestyles": [style], "zorder": 3 if extra else 4}
            ends = {"capstyle": "round" if style == "solid" else "butt"}
            look = {**shape, **ends, **colours, "norm": norm, "cmap": change_colours()}
            axes.add_collection(LineCollection(list(segments[lines]), **look))
    ends = ~still & (measured.last > 0)
    end = start[ends, :2] + measured.total()[ends, :2]
    shown = {"c": measured.total()[ends, 2], "norm": norm, "cmap": change_colours(), "edgecolors": DARK}
    big = measured.moving[ends]
    axes.scatter(
        end[:, 0], end[:, 1], s=np.where(big, 11, 4), linewidths=np.where(big, 0.5, 0.3).tolist(), zorder=5, **shown
    )
    axes.set(xlim=(0, width), ylim=(height, 0))
    _bare(axes, "")


def draw_steps(axes: "Axes", t: Triplet, measured: MeasuredFlow) -> None:
    """Draw a dot at every fourth step of each point that moves: the dots are far apart where it is fast."""
    at = measured.used & measured.moving[:, None] & (np.arange(measured.used.shape[1]) % 4 == 0)
    axes.scatter(*positions(t)[at][:, :2].T, s=7, c=DARK, edgecolors="#ffffff", linewidths=0.5, zorder=6)


def draw_depth(figure: "Figure", axes: "Axes", bar: "Axes", t: Triplet) -> None:
    """Draw the depth of the keypoints at the reference frame, as a map if they form a square grid."""
    from matplotlib import colormaps

    uvz = positions(t)[:, 0]
    depth = np.where(t.flow.valid[:, 0], uvz[:, 2], np.nan)
    side, (width, height) = math.isqrt(len(depth)), t.camera.size
    colours = colormaps[DEPTH_MAP].with_extremes(bad=NO_DEPTH)
    if side * side == len(depth) and _is_grid(uvz[:, 0].reshape(side, -1), uvz[:, 1].reshape(side, -1)):
        shown: Any = axes.imshow(depth.reshape(side, side), cmap=colours, extent=(0, width, height, 0))
    else:
        shown = axes.scatter(uvz[:, 0], uvz[:, 1], c=depth, cmap=colours, s=12, plotnonfinite=True)
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    unit = t.depth_unit if t.depth_unit == "m" else f"{t.depth_unit} units"
    missing = int(np.isnan(depth).sum())
    _bare(axes, f"depth at the keypoints ({unit})" + (f", {missing} without" if missing else ""))
    figure.colorbar(shown, cax=bar)
    _style_bar(bar)


def _is_grid(u: Float[np.ndarray, "R C"], v: Float[np.ndarray, "R C"]) -> bool:
    """Whether keypoints lie in rows and columns; adaptive ones do not."""
    return float(np.ptp(u, axis=0).max()) < 1 and float(np.ptp(v, axis=1).max()) < 1


def depth_change_limit(pairs: list[tuple[Triplet, MeasuredFlow]]) -> float:
    """The end of the scale of depth change for some samples, in their unit: at least 1 cm (or 0.01)."""
    changes = [m.displacement[..., 2][m.used & m.moving[:, None]] for _, m in pairs]
    return nice_limit(np.concatenate([np.zeros(0), *changes]), 0.01)


def title_of(t: Triplet) -> str:
    """The instruction, or a note that there is none."""
    return next((text for text in t.instructions if text.strip()), "(no instruction)")


def source_of(t: Triplet) -> str:
    """The sample's source, in one line."""
    s = t.source
    return f"{s.dataset}: {s.file}, {s.episode}, {s.camera}, frame {s.frame}"


def _segments(t: Triplet, uvz: Float[np.ndarray, "K S 3"], measured: MeasuredFlow):
    """Segments [N, 2, 2] of trajectories between neighbouring used steps, the depth change at their ends, and which of
    them are visible.
    """
    used = measured.used[:, 1:] & measured.used[:, :-1] & np.any(measured.displacement, axis=(1, 2))[:, None]
    pieces = np.stack([uvz[:, :-1, :2], uvz[:, 1:, :2]], axis=2)[used]
    seen = (t.flow.visible[:, 1:] & t.flow.visible[:, :-1])[used]
    return pieces, measured.displacement[:, 1:, 2][used], seen


def _calm(picture: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """The picture darker and greyer, so that colours drawn over it can be seen."""
    grey = picture.mean(axis=-1, keepdims=True)
    return np.clip((0.5 * picture + 0.5 * grey) * 0.78 / 255, 0, 1)


def _legend_words(t: Triplet, measured: MeasuredFlow) -> str:
    seconds = t.flow.horizon * t.step_seconds if t.fps > 0 else 0
    inside = int(measured.inside.sum()) - 1
    cut = f", of which {inside} lie in the episode" if inside < t.flow.horizon else ""
    return (
        f"{int(measured.moving.sum())} of {len(measured.moving)} points move in {t.flow.horizon} steps "
        f"({seconds:.1f} s{cut})."
        "  Dots: where they end.  Dotted: hidden."
    )


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _bare(axes: "Axes", title: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_anchor("NW")
    axes.set_title(title, fontsize=10, color=INK, loc="left", pad=5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _change_bar(figure: "Figure", axes: "Axes", limit: float, unit: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale, word = (100, "cm") if unit == "m" else (1, unit)
    figure.colorbar(ScalarMappable(Normalize(-limit * scale, limit * scale), change_colours()), cax=axes)
    inches = axes.get_position().height * figure.get_figheight()
    words = (
        f"depth change ({word}):  towards the camera  <  0  <  away"
        if inches > 4.5
        else f"depth ({word}):  towards  <  0  <  away"
    )
    axes.set_ylabel(words, fontsize=9.5, color=INK)
    _style_bar(axes)


def _style_bar(axes: "Axes") -> None:
    axes.tick_params(labelsize=9, colors=INK, length=0, pad=4)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _plain(text: str, width: int) -> str:
    """One line of printable characters, shortened in the middle to ``width``: data may hold any text."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[:half]}…{text[-half:]}"
