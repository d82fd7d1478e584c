"""The page's cards. Each shows one sample: its flow is played over image and video and shown in 3D."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from pipeline.inspection.colours import DEPTH_MAP, NO_DEPTH, depth_table
from pipeline.inspection.flow_statistics import MeasuredFlow, measure, positions
from pipeline.inspection.pictures import source_of, title_of
from pipeline.inspection.retargeted import RAW, RETARGETED, retargeted
from pipeline.inspection.sample import Found, describe
from pipeline.inspection.score import score_of
from pipeline.inspection.terminal import sample_rows
from pipeline.inspection.text import flow_rows, flow_tables, number, score_words
from pipeline.inspection_page.data import flow_data
from pipeline.inspection_page.markup import image, json_text, numbers_table, rows_list, text
from pipeline.inspection_page.scales import Scale
from schemas.triplet import Triplet

VIEWS = {"image": "Image", "video": "Video", "space": "In space"}


@dataclass(frozen=True)
class Drawing:
    """Settings and data that all cards of a page share.

    Attributes:
        scales: by unit of depth.
        in_space: whether the page contains the plotting library.
        videos: encoded frames of steps 0..T by the sample's key, for samples whose frames are available.
    """

    scales: dict[str, Scale]
    in_space: bool
    videos: dict[str, list[bytes]]


def card(found: Found, drawing: Drawing, brief: bool, both: bool = False) -> str:
    """A card with all facts of a sample.

    Args:
        brief: fold the long sections.
        both: show the flow raw and retargeted, side by side.
    """
    if not found.triplet.has_flow:
        return _card_without_flow(found, brief)
    t = found.triplet
    measured = measure(t)
    look = (_both_looks if both else _look)(t, measured, drawing)
    facts = describe(found)
    wrist = image(t.images["wrist"], "small", "wrist image") if "wrist" in t.images else "<p class='none'>none</p>"
    tables = "".join(numbers_table(x) for x in flow_tables(facts["flow"]))
    return (
        f"<article class='card{' with-both' if both else ''}'>{look}<div class='side'>{_titles(t)}"
        f"<div class='pair'><figure>{_depth(t, drawing.scales[t.depth_unit])}</figure>"
        f"<figure><figcaption>wrist</figcaption>{wrist}</figure></div>{_actions(t)}"
        f"<p class='fact'>{text(_fact(t, measured))} {text(_score_sentence(t, measured))}</p>"
        f"<details{'' if brief else ' open'}><summary>Everything about this "
        f"sample</summary>{rows_list(sample_rows(facts))}"
        f"<h4>State</h4>{rows_list([(k, f'{v:.4f}') for k, v in facts['state'].items()])}"
        f"<h4>Flow</h4>{rows_list(flow_rows(facts['flow']))}{tables}</details></div></article>"
    )


def _titles(t: Triplet) -> str:
    """The instruction, the other texts and the source."""
    texts = "".join(f"<li>{text(said)}</li>" for said in t.instructions[1:] if said.strip())
    texts += "".join(f"<li>{text(g.text)} <i>({text(g.style)}, generated)</i></li>" for g in t.generated_instructions)
    return (
        f"<h3>{text(title_of(t))}</h3>"
        + (f"<ul class='texts'>{texts}</ul>" if texts else "")
        + f"<p class='where'>{text(source_of(t))}</p>"
    )


def _card_without_flow(found: Found, brief: bool) -> str:
    """A card of a sample without flow: its pictures, actions and facts."""
    t, facts = found.triplet, describe(found)
    wrist = image(t.images["wrist"], "small", "wrist image") if "wrist" in t.images else ""
    return (
        f"<article class='card'><div>{image(t.images['image'], 'small', 'reference image')}</div>"
        f"<div class='side'>{_titles(t)}"
        + (f"<div class='pair'><figure><figcaption>wrist</figcaption>{wrist}</figure></div>" if wrist else "")
        + f"{_actions(t)}<p class='fact'>No flow was measured.</p>"
        f"<details{'' if brief else ' open'}><summary>Everything about this "
        f"sample</summary>{rows_list(sample_rows(facts))}"
        f"<h4>State</h4>{rows_list([(k, f'{v:.4f}') for k, v in facts['state'].items()])}</details></div></article>"
    )


def folded_card(found: Found, drawing: Drawing, both: bool = False) -> str:
    """A folded card whose summary line shows the instruction, the source and how many points move."""
    t = found.triplet
    words = f"{t.source.episode}, frame {t.source.frame}"
    if t.has_flow:
        words += f": {int(measure(t).moving.sum())} of {len(t.point_flags)} points move"
    return (
        f"<details class='sample'><summary><b>{text(title_of(t))}</b> <span>{text(words)}</span></summary>"
        f"{card(found, drawing, brief=True, both=both)}</details>"
    )


def rejected_look(t: Triplet, drawing: Drawing) -> str:
    """The flow of a window that was not kept, played over its reference image."""
    return f"<div class='card small-card'>{_look(t, measure(t), replace(drawing, in_space=False))}</div>"


def small_card(found: Found, drawing: Drawing) -> str:
    """A small card of a sample with its score, for the rows of the worst and the best samples."""
    t = found.triplet
    measured = measure(t)
    return (
        f"<article class='card small-card'>{_look(t, measured, drawing)}<h3>{text(title_of(t))}</h3>"
        f"<p class='fact'>{text(score_words(score_of(t, measured)))}</p>"
        f"<p class='where'>{text(source_of(t))}; {text(t.key)}</p></article>"
    )


def _both_looks(t: Triplet, measured: MeasuredFlow, drawing: Drawing) -> str:
    """The flow as stored and in even steps of distance; a video shows the frames nearest to those times."""
    made = retargeted(t)
    looks = (
        (RAW, _look(t, measured, drawing)),
        (RETARGETED, _look(made.triplet, measure(made.triplet), drawing, made.times)),
    )
    sections = "".join(f"<section><h4>{text(words)}</h4>{look}</section>" for words, look in looks)
    return f"<div class='both'>{sections}</div>"


def _look(t: Triplet, measured: MeasuredFlow, drawing: Drawing, times: Float[np.ndarray, " S"] | None = None) -> str:
    """Image, canvas and controls, with the data to draw.

    Args:
        times: see ``flow_data``.
    """
    limit, in_space = drawing.scales[t.depth_unit].change, drawing.in_space
    video = drawing.videos.get(t.key)
    if video and times is not None:
        video = [video[step] for step in np.rint(times).astype(int)]
    scale, unit = (100, "cm") if t.depth_unit == "m" else (1, t.depth_unit)
    ends = [f"-{limit * scale:g} {unit}, towards", "0", f"+{limit * scale:g} {unit}, away"]
    legend = "".join(f"<span>{text(e)}</span>" for e in ends)
    width, height = t.camera.size
    return (
        f"<div class='look'><div class='stage' data-width='{width}' data-height='{height}'>"
        f"{image(t.images['image'], 'frame', 'reference image')}<canvas></canvas>"
        + ("<div class='space'></div>" if in_space else "")
        + "</div>"
        + _view_buttons(bool(video), in_space)
        + "<div class='controls'><button type='button' class='play'>Play</button>"
        f"<input type='range' min='0' max='{t.flow.horizon}' value='{t.flow.horizon}' "
        "aria-label='step'><output></output></div>"
        f"<div class='legend'><i></i><div>{legend}</div></div>"
        "<script type='application/json' "
        f"class='flow'>{json_text(flow_data(t, measured, limit, video, times))}</script></div>"
    )


def _view_buttons(video: bool, in_space: bool) -> str:
    """Buttons for the available views, if there is more than one."""
    there = {"image": True, "video": video, "space": in_space}
    if sum(there.values()) == 1:
        return ""
    buttons = "".join(
        f"<button type='button' data-view='{name}' "
        f"aria-pressed='{'true' if name == 'image' else 'false'}'>{words}</button>"
        for name, words in VIEWS.items()
        if there[name]
    )
    return f"<div class='views' role='group' aria-label='view'>{buttons}</div>"


def _depth(t: Triplet, scale: Scale) -> str:
    """Depth at the keypoints as squares, with the ends of the scale."""
    uvz, valid = positions(t)[:, 0], t.flow.valid[:, 0]
    width, height = t.camera.size
    depth = uvz[:, 2]
    table = depth_table()
    span = max(scale.far - scale.near, 1e-9)
    level = np.clip((depth - scale.near) / span * (len(table) - 1), 0, len(table) - 1).round()
    side = math.isqrt(len(depth))
    w, h = width / side, height / side
    if side * side == len(depth):
        # Keypoints are on whole pixels, so their distances differ by one pixel: cells of equal size look better.
        corners = np.stack(np.meshgrid(np.arange(side) * w, np.arange(side) * h, indexing="xy"), axis=-1).reshape(-1, 2)
    else:
        corners = uvz[:, :2] - [w / 2, h / 2]
    cells = "".join(
        f"<rect x='{x:.2f}' y='{y:.2f}' width='{w + 0.05:.2f}' height='{h + 0.05:.2f}' "
        f"fill='{table[int(i)] if ok else NO_DEPTH}'/>"
        for (x, y), i, ok in zip(corners, np.nan_to_num(level), valid, strict=True)
    )
    ends = [f"<span>{number(end)} {text(t.depth_unit)}</span>" for end in (scale.near, scale.far)]
    return (
        "<figcaption>depth at the keypoints</figcaption>"
        f"<svg class='small' viewBox='0 0 {width} {height}' shape-rendering='crispEdges' role='img' "
        f"aria-label='depth at the keypoints'>{cells}</svg>"
        f"<div class='scale {DEPTH_MAP}'>{ends[0]}<i></i>{ends[1]}</div>"
    )


def _actions(t: Triplet) -> str:
    """Each action dimension over the horizon, drawn as a line; steps after the episode's end are left out."""
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
            f"<div><span>{text(names[d])}</span><svg viewBox='0 0 100 16' preserveAspectRatio='none'>"
            f"<line class='zero' x1='0' x2='100' y1='8' y2='8'/><polyline points='{points}'/>"
            f"<line class='now' x1='100' x2='100' y1='0' y2='16'/></svg><span>±{number(reach)}</span></div>"
        )
    title = f"actions ({t.action_convention.name}), {int(t.action_mask.sum())} of {horizon} in the episode"
    return f"<h4>{text(title)}</h4><div class='actions'>{''.join(rows)}</div>"


def _fact(t: Triplet, measured: MeasuredFlow) -> str:
    farthest, missing = measured.distance.max(initial=0), int((~t.flow.valid[:, 0]).sum())
    scale, unit = (100, "cm") if t.depth_unit == "m" else (1, t.depth_unit)
    return (
        f"{int(measured.moving.sum())} of {len(measured.moving)} points move; the farthest gets "
        f"{number(farthest * scale)} {unit} "
        f"away from its place. {f'Grey: {missing} without depth. ' if missing else ''}"
        f"Depth: {t.depth_source}. Flow: {t.flow_source}."
    )


def _score_sentence(t: Triplet, measured: MeasuredFlow) -> str:
    words = score_words(score_of(t, measured))
    return f"{words[0].upper()}{words[1:]}."
