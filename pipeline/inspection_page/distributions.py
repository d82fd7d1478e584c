"""Histograms of flow side by side, one line for each dataset, as inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.inspection_page.markup import text

LINES = ("#1565d8", "#d95f02", "#1b9e77", "#a6469b", "#7a6a00", "#8c8c8c")
"""Colours that colour-blind people can tell apart. With more datasets the colours repeat with dashed lines."""
WIDE, HIGH, LEFT, BOTTOM, TOP = 270, 150, 38, 24, 8
SMALLEST = 1e-5
"""Shares are drawn on a logarithmic scale, down to this value."""


@dataclass(frozen=True)
class Histograms:
    """The histograms of one dataset.

    Attributes:
        bins: by quantity (``du``, ``dv``, ``dz`` and ``distance``): ``edges`` and ``shares``.
        unit: of depth.
    """

    name: str
    unit: str
    bins: dict[str, dict[str, list[float]]]


def histograms_of(name: str, flows: Sequence[dict[str, Any]]) -> list[Histograms]:
    """The histograms of a set of shards, one entry for each unit of depth."""
    return [
        Histograms(name if len(flows) == 1 else f"{name}, {f['unit']}", f["unit"], f["histograms_of_moving_points"])
        for f in flows
    ]


def drawn(sets: Sequence[Histograms]) -> str:
    """Four drawings and, if there are several datasets, a legend of the lines."""
    if not sets:
        return ""
    metric = all(s.unit == "m" for s in sets)
    titles = {
        "du": "du of a step, normalised",
        "dv": "dv of a step, normalised",
        "dz": "dz of a step, normalised",
        "distance": f"distance to the last step ({'cm' if metric else 'unit of depth'})",
    }
    figures = "".join(
        f"<figure><figcaption>{text(title)}</figcaption>{_drawing(quantity, sets, metric)}</figure>"
        for quantity, title in titles.items()
    )
    legend = "".join(
        f"<span><svg viewBox='0 0 22 8' class='key'><path d='M0 4H22' {_stroke(i)}/></svg>{text(s.name)}</span>"
        for i, s in enumerate(sets)
    )
    return f"<div class='histograms'>{figures}</div>" + (f"<p class='lines'>{legend}</p>" if len(sets) > 1 else "")


def _drawing(quantity: str, sets: Sequence[Histograms], metric: bool) -> str:
    edges = sets[0].bins[quantity]["edges"]
    distance = quantity == "distance"
    low, high = edges[0], edges[-1]

    def x(value: float) -> float:
        part = math.log(value / low) / math.log(high / low) if distance else (value - low) / (high - low)
        return LEFT + part * (WIDE - LEFT - 12)

    def y(share: float) -> float:
        part = math.log10(max(share, SMALLEST) / SMALLEST) / -math.log10(SMALLEST)
        return HIGH - BOTTOM - part * (HIGH - BOTTOM - TOP)

    ticks = (0.001, 0.01, 0.1, 1, 10) if distance else (-1, 0, 1)
    names = ("0.1", "1", "10", "100", "1000") if distance and metric else [f"{t:g}" for t in ticks]
    marks = "".join(
        f"<path class='grid' d='M{x(t):.1f} {TOP}V{HIGH - BOTTOM}'/>"
        f"<text x='{x(t):.1f}' y='{HIGH - BOTTOM + 14}' text-anchor='middle'>{n}</text>"
        for t, n in zip(ticks, names, strict=True)
    )
    for share, said in ((1, "100%"), (0.01, "1%"), (0.0001, "0.01%")):
        marks += f"<path class='grid' d='M{LEFT} {y(share):.1f}H{WIDE - 12}'/>"
        marks += f"<text x='{LEFT - 5}' y='{y(share) + 3.5:.1f}' text-anchor='end'>{said}</text>"
    outside = ""
    if not distance:  # beyond the published range
        outside = "".join(
            f"<rect class='outside' x='{x(a):.1f}' y='{TOP}' width='{x(b) - x(a):.1f}' height='{HIGH - BOTTOM - TOP}'/>"
            for a, b in ((low, -1), (1, high))
        )
    lines = ""
    for i, s in enumerate(sets):
        bins = s.bins[quantity]
        steps = "".join(
            f"H{x(b):.1f}V{y(share):.1f}" for b, share in zip(bins["edges"][:-1], bins["shares"], strict=True)
        )
        lines += f"<path d='M{LEFT} {y(0):.1f}{steps}H{x(high):.1f}V{y(0):.1f}' {_stroke(i)}/>"
    return f"<svg viewBox='0 0 {WIDE} {HIGH}' role='img' aria-label='{text(quantity)}'>{outside}{marks}{lines}</svg>"


def _stroke(number: int) -> str:
    dash = " stroke-dasharray='4 3'" if number >= len(LINES) else ""
    return f"fill='none' stroke='{LINES[number % len(LINES)]}' stroke-width='1.6'{dash}"
