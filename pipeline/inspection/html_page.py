"""One page that needs nothing but itself: a summary, and samples whose flow plays over their image."""

import base64
import hashlib
import json
import math
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.inspection.colours import DEPTH_MAP, NO_DEPTH, change_table, depth_table
from pipeline.inspection.flow_statistics import MeasuredFlow, measure, positions
from pipeline.inspection.page_parts import SCRIPT, STYLE
from pipeline.inspection.pictures import depth_change_limit, source_of, title_of
from pipeline.inspection.sample_report import Found, describe
from pipeline.inspection.summary import Summary
from pipeline.inspection.terminal import printable, sample_rows
from pipeline.inspection.text import (
    Rows,
    Table,
    bytes_words,
    finding_words,
    flow_rows,
    flow_tables,
    instruction_rows,
    integrity_words,
    number,
    percent,
    summary_rows,
    summary_title,
)
from schemas.files import write_whole
from schemas.flow_quanta import QUANTUM_PX, QUANTUM_Z
from schemas.triplet import Triplet


def write_page(path: Path, summary: Summary | None, samples: list[Found]) -> None:
    """Write the page whole.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, page(summary, samples).encode())


def page(summary: Summary | None, samples: list[Found]) -> str:
    """The page. Every text that comes from data is escaped, and the page may load and run nothing but its own parts."""
    title = summary_title(summary) if summary else f"sample {samples[0].triplet.key}" if samples else "no samples"
    policy = (
        "default-src 'none'; img-src data:; "
        f"style-src '{_content_hash(STYLE)}'; script-src '{_content_hash(SCRIPT)}'; base-uri 'none'; form-action 'none'"
    )
    shared = {"colours": change_table(), "quantum": [QUANTUM_PX, QUANTUM_Z]}
    body = [_overview(summary)] if summary else [f"<header><h1>{_text(title)}</h1></header>"]
    if samples:
        body.append(_toolbar(len(samples), summary))
    body.append('<section class="cards">' + "".join(_card(f, bool(summary)) for f in samples) + "</section>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + f'\n</main>\n<script type="application/json" id="shared">{_json(shared)}</script>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _overview(summary: Summary) -> str:
    manifest = summary.collection.manifest
    name = manifest.dataset.get("name", "triplets") if manifest else "triplets"
    tiles = [
        ("samples", f"{summary.samples:,}"),
        ("episodes", f"{summary.episodes:,}"),
        ("shards", f"{summary.shards:,}"),
        ("in all", bytes_words(summary.bytes)),
    ]
    if summary.bytes_per_sample:
        tiles.append(("a sample", bytes_words(summary.bytes_per_sample["all"])))
    for flow in summary.flow[:1]:
        tiles += [("of points move", percent(flow["share_moving"])), ("visible", percent(flow["share_visible"]))]
    strip = "".join(f"<div><b>{_text(value)}</b><span>{_text(label)}</span></div>" for label, value in tiles)
    failures = "".join(f"<li>{_text(finding_words(f))}</li>" for f in summary.findings)
    notes = "".join(f"<p>{_text(note)}</p>" for note in summary.notes)
    kind = "bad" if summary.findings else "good" if summary.verified else "unsure"
    verdict = (
        f'<section class="verdict {kind}"><p><b>Integrity:</b> {_text(integrity_words(summary))}.</p>'
        f"{f'<ul>{failures}</ul>' if failures else ''}{notes}</section>"
    )
    flows = "".join(
        f"<section class='panel'><h2>Flow, depth in {_text(f['unit'])}</h2>{_list(flow_rows(f))}"
        + "".join(_table(t) for t in flow_tables(f) if t.title.split(", ")[-1] == "moving points")
        + "<details><summary>The same for all points</summary>"
        + "".join(_table(t) for t in flow_tables(f) if t.title.split(", ")[-1] == "all points")
        + "</details></section>"
        for f in summary.flow
    )
    words = _rows_as_table(instruction_rows(summary))
    recipe = json.dumps(manifest.recipe, indent=1, ensure_ascii=False) if manifest else ""
    return (
        f"<header><h1>{_text(name)}</h1><p class='where'>{_text(summary.collection.path)}</p></header>"
        f"<section class='tiles'>{strip}</section>{verdict}"
        f"<div class='columns'><section class='panel'><h2>What is inside</h2>{_list(summary_rows(summary))}"
        + (f"<h3>Instructions, by number of samples</h3>{words}" if summary.words.instructions else "")
        + (f"<details><summary>The recipe</summary><pre>{_text(recipe, True)}</pre></details>" if recipe else "")
        + f"</section>{flows}</div>"
    )


def _toolbar(count: int, summary: Summary | None) -> str:
    shown = f"{count} of {summary.samples:,} samples" if summary else "One sample"
    return (
        f"<section class='toolbar'><h2>{shown}</h2><button id='all' type='button'>Play all</button>"
        "<p>Each keypoint's way over the image. Colour is the change of its depth since the reference frame. Faint: hidden at that "
        "step. Small dots do not move.</p><noscript><p>The flow is drawn by a script, which is switched off here.</p></noscript>"
        "</section>"
    )


def _card(found: Found, brief: bool) -> str:
    t = found.triplet
    measured = measure(t)
    limit = depth_change_limit([(t, measured)])
    facts = describe(found)
    scale, unit = (100, "cm") if t.depth_unit == "m" else (1, t.depth_unit)
    ends = [f"-{limit * scale:g} {unit}, towards", "0", f"+{limit * scale:g} {unit}, away"]
    legend = "".join(f"<span>{_text(e)}</span>" for e in ends)
    steps = t.flow.horizon
    texts = "".join(f"<li>{_text(text)}</li>" for text in t.instructions[1:] if text.strip())
    width, height = t.camera.size
    wrist = _image(t.images["wrist"], "small", "wrist image") if "wrist" in t.images else "<p class='none'>none</p>"
    tables = "".join(_table(x) for x in flow_tables(facts["flow"]))
    return (
        f"<article class='card'><div class='look'><div class='stage' data-width='{width}' data-height='{height}'>"
        f"{_image(t.images['image'], 'frame', 'reference image')}<canvas></canvas></div>"
        f"<div class='controls'><button type='button' class='play'>Play</button>"
        f"<input type='range' min='0' max='{steps}' value='{steps}' aria-label='step'><output></output></div>"
        f"<div class='legend'><i></i><div>{legend}</div></div></div>"
        f"<div class='side'><h3>{_text(title_of(t))}</h3>"
        + (f"<ul class='texts'>{texts}</ul>" if texts else "")
        + f"<p class='where'>{_text(source_of(t))}</p>"
        f"<div class='pair'><figure>{_depth(t)}</figure>"
        f"<figure><figcaption>wrist</figcaption>{wrist}</figure></div>{_actions(t)}"
        f"<p class='fact'>{_text(_fact(t, measured))}</p>"
        f"<details{'' if brief else ' open'}><summary>Everything about this sample</summary>{_list(sample_rows(facts))}"
        f"<h4>State</h4>{_list([(k, f'{v:.4f}') for k, v in facts['state'].items()])}"
        f"<h4>Flow</h4>{_list(flow_rows(facts['flow']))}{tables}</details></div>"
        f"<script type='application/json' class='flow'>{_json(_flow_data(t, measured, limit))}</script></article>"
    )


def _flow_data(t: Triplet, measured: MeasuredFlow, limit: float) -> dict[str, Any]:
    """Start of every known point, and of those that move the displacement in quanta and what is known of each step."""
    start, known = positions(t)[:, 0], t.flow.valid[:, 0]
    moves = np.any(measured.displacement, axis=(1, 2)) & known
    quanta = np.rint(measured.displacement[moves] / [QUANTUM_PX, QUANTUM_PX, QUANTUM_Z]).astype("<i2")
    state = np.where(measured.used, 1 + (measured.used & t.flow.visible), 0)[moves].astype(np.uint8)
    return {
        "steps": t.flow.horizon,
        "fps": t.fps,
        "limit": limit,
        "still": start[known & ~moves, :2].round(2).ravel().tolist(),
        "moving": measured.moving[moves].astype(int).tolist(),
        "start": start[moves, :2].round(2).ravel().tolist(),
        "moved": base64.b64encode(quanta.tobytes()).decode(),
        "state": base64.b64encode(state.tobytes()).decode(),
    }


def _depth(t: Triplet) -> str:
    """Depth at the keypoints as squares, with the ends of the scale."""
    uvz, valid = positions(t)[:, 0], t.flow.valid[:, 0]
    width, height = t.camera.size
    depth = uvz[:, 2]
    low, high = (float(depth[valid].min()), float(depth[valid].max())) if valid.any() else (0.0, 1.0)
    table = depth_table()
    level = np.clip((depth - low) / max(high - low, 1e-9) * (len(table) - 1), 0, len(table) - 1).round()
    side = math.isqrt(len(depth))
    w, h = width / side, height / side
    if side * side == len(
        depth
    ):  # keypoints stand on whole pixels, so their distances differ by one: even cells look better
        corners = np.stack(np.meshgrid(np.arange(side) * w, np.arange(side) * h, indexing="xy"), axis=-1).reshape(-1, 2)
    else:
        corners = uvz[:, :2] - [w / 2, h / 2]
    cells = "".join(
        f"<rect x='{x:.2f}' y='{y:.2f}' width='{w + 0.05:.2f}' height='{h + 0.05:.2f}' "
        f"fill='{table[int(i)] if ok else NO_DEPTH}'/>"
        for (x, y), i, ok in zip(corners, np.nan_to_num(level), valid, strict=True)
    )
    ends = [f"<span>{number(end)} {_text(t.depth_unit)}</span>" for end in (low, high)]
    return (
        "<figcaption>depth at the keypoints</figcaption>"
        f"<svg class='small' viewBox='0 0 {width} {height}' shape-rendering='crispEdges' role='img' "
        f"aria-label='depth at the keypoints'>{cells}</svg>"
        f"<div class='scale {DEPTH_MAP}'>{ends[0]}<i></i>{ends[1]}</div>"
    )


def _actions(t: Triplet) -> str:
    """Each action dimension over the horizon as a line; steps after the episode's end are left out."""
    horizon, dimensions = t.actions.shape
    names = (
        t.action_convention.dimensions
        if len(t.action_convention.dimensions) == dimensions
        else [str(i) for i in range(dimensions)]
    )
    rows = []
    for d in range(dimensions):
        values = t.actions[:, d].astype(float)
        reach = max(float(np.abs(values[t.action_mask]).max(initial=0)), 1e-9)
        points = " ".join(
            f"{(i + 0.5) / horizon * 100:.1f},{8 - 7 * values[i] / reach:.1f}" for i in np.flatnonzero(t.action_mask)
        )
        rows.append(
            f"<div><span>{_text(names[d])}</span><svg viewBox='0 0 100 16' preserveAspectRatio='none'>"
            f"<line class='zero' x1='0' x2='100' y1='8' y2='8'/><polyline points='{points}'/>"
            f"<line class='now' x1='100' x2='100' y1='0' y2='16'/></svg><span>±{number(reach)}</span></div>"
        )
    title = f"actions ({t.action_convention.name}), {int(t.action_mask.sum())} of {horizon} in the episode"
    return f"<h4>{_text(title)}</h4><div class='actions'>{''.join(rows)}</div>"


def _fact(t: Triplet, measured: MeasuredFlow) -> str:
    farthest, missing = measured.distance.max(initial=0), int((~t.flow.valid[:, 0]).sum())
    scale, unit = (100, "cm") if t.depth_unit == "m" else (1, t.depth_unit)
    return (
        f"{int(measured.moving.sum())} of {len(measured.moving)} points move; the farthest gets {number(farthest * scale)} {unit} "
        f"away from its place. {f'Grey: {missing} without depth. ' if missing else ''}"
        f"Depth: {t.depth_source}. Flow: {t.flow_source}."
    )


def _image(data: bytes, name: str, alt: str) -> str:
    kind = "png" if data[:1] == b"\x89" else "jpeg"
    return f"<img class='{name}' alt='{alt}' src='data:image/{kind};base64,{base64.b64encode(data).decode()}'>"


def _list(rows: Rows) -> str:
    return "<dl>" + "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in rows) + "</dl>"


def _rows_as_table(rows: Rows) -> str:
    cells = "".join(f"<tr><td>{_text(k)}</td><td class='words'>{_text(v)}</td></tr>" for k, v in rows)
    return f"<table class='texts'>{cells}</table>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{_text(c)}</th>" for c in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{_text(c)}</td>" for c in row) + "</tr>" for row in table.rows)
    return f"<table class='numbers'><caption>{_text(table.title)}</caption><tr>{head}</tr>{rows}</table>"


def _text(value: Any, lines: bool = False) -> str:
    text = printable(str(value))
    return escape(text if lines else text.replace("\n", " "), quote=True)


def _json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _content_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
