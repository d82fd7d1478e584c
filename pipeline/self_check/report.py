"""A check without exact flow as text tables and as JSON."""

from typing import Any

from pipeline.evaluation.text_tables import Row, aligned, markdown, number, percent
from pipeline.self_check.metrics import KINDS, Metrics
from pipeline.self_check.run import SelfCheck
from pipeline.self_check.windows import MOVES_PX, SIDE

UNITS = {"m": "cm", "relative": "% of depth"}


def as_json(result: SelfCheck) -> dict[str, Any]:
    """All results except the pictures."""
    return {
        "truth": "none",
        "dataset": result.dataset,
        "episodes": result.episodes,
        "refused": result.refused,
        "unlabelled": result.unlabelled,
        "frames_per_second": result.frames_per_second,
        "metrics": result.metrics,
    }


def as_text(result: SelfCheck) -> str:
    """Tables for the terminal."""
    return "\n\n".join([*(aligned(title, rows) for title, rows in tables(result)), *_listed(_left_out(result), "")])


def as_markdown(result: SelfCheck) -> str:
    """The same tables for the docs."""
    parts = [*(markdown(title, rows) for title, rows in tables(result)), *_listed(_left_out(result), "* ")]
    return "\n\n".join(parts) + "\n"


def tables(result: SelfCheck) -> list[tuple[str, list[Row]]]:
    """(title, rows, of which the first is the header)."""
    m = result.metrics
    if m is None:
        return []
    where = f"{result.dataset}, {result.episodes} episodes, {m['windows']} windows"
    moving = f"{m['moving_points']:,} of {m['points']:,} points move more than {MOVES_PX:g} px"
    found = [
        (f"{where}; {moving}. To the last step and back; px of a picture {SIDE} wide", _cycle(result, m)),
        (f"{result.dataset}. Points seen, by step", _seen_by_step(m)),
        (f"{result.dataset}. {_background_of(m)}", _background(m["tracks"], "px")),
    ]
    if m["agreement"]:
        found.append((f"{result.dataset}. Two trackers on one point: how far apart", _agreement(m["agreement"], "px")))
        found.append((f"{result.dataset}. Moving points by step: median px apart, within 2 px", _apart_by_step(m)))
    if m["labels"]:
        unit = " / ".join(sorted({UNITS[u] for one in m["labels"].values() for u in one["units"]}))
        found.append((f"{result.dataset}. Labels in space; {unit}", _labels(m["labels"], unit)))
    if m["label_agreement"]:
        found.append((f"{result.dataset}. Labels in space: how far apart", _agreement(m["label_agreement"], unit)))
    return found


def _cycle(result: SelfCheck, m: Metrics) -> list[Row]:
    head = ["", "points", "seen", "reach the end", "of those lost on the way back", "median px", "90th px"]
    rows: list[Row] = []
    for name, own in m["tracks"].items():
        for kind in KINDS:
            c = own[kind]
            speed = f"{result.frames_per_second[name]:.0f}" if name in result.frames_per_second else "-"
            rows.append(
                [f"{name}, {kind}", f"{c['points']:,}", percent(c["seen"]), percent(c["reach_end"])]
                + [percent(c["lost_back"]), number(c["cycle_px"]["median"]), number(c["cycle_px"]["p90"])]
                + [percent(share) for share in c["cycle_within"].values()]
                + [speed if kind == KINDS[0] else ""]
            )
    limits = [f"< {limit} px" for limit in next(iter(m["tracks"].values()))[KINDS[0]]["cycle_within"]]
    return [[*head, *limits, "frames/s"], *rows]


def _seen_by_step(m: Metrics) -> list[Row]:
    steps = next(iter(m["tracks"].values()))[KINDS[0]]["seen_by_step"]
    body = [
        [f"{name}, {kind}", *(percent(share) for share in own[kind]["seen_by_step"].values())]
        for name, own in m["tracks"].items()
        for kind in KINDS
    ]
    return [["", *(f"step {step}" for step in steps)], *body]


def _background_of(m: Metrics) -> str:
    if not m["still_cameras"]:
        return "Background drift: no camera stands still"
    return (
        f"Drift of {m['background_points']:,} points that the pictures show to stand still, in the "
        f"{m['still_cameras']} of {m['windows']} windows whose camera does"
    )


def _background(parts: Metrics, unit: str) -> list[Row]:
    head = ["", "kept", f"mean {unit}", f"99th {unit}", f"worst {unit}", "moved, a window"]
    body = []
    for name, own in parts.items():
        b = own["background"]
        body.append([name, percent(b["kept"]), *(number(b[key]) for key in ("mean", "p99", "max", "movers"))])
    return [head, *body]


def _agreement(pairs: Metrics, unit: str) -> list[Row]:
    limits = list(next(iter(pairs.values()))[KINDS[0]]["within"])
    head = [
        "",
        "point-steps",
        "both keep",
        f"median {unit}",
        f"90th {unit}",
        *(f"< {limit} {unit}" for limit in limits),
    ]
    body = []
    for pair, own in pairs.items():
        for kind in KINDS:
            d = own[kind]
            body.append(
                [f"{pair}, {kind}", f"{d['points']:,}", percent(d["both"])]
                + [number(d["distance"]["median"]), number(d["distance"]["p90"])]
                + [percent(share) for share in d["within"].values()]
            )
    return [head, *body]


def _apart_by_step(m: Metrics) -> list[Row]:
    steps = next(iter(m["agreement"].values()))[KINDS[0]]["by_step"]
    body = [
        [pair, *(f"{number(at['median'])}, {percent(at['within']['2'])}" for at in own[KINDS[0]]["by_step"].values())]
        for pair, own in m["agreement"].items()
    ]
    return [["", *(f"step {step}" for step in steps)], *body]


def _labels(labels: Metrics, unit: str) -> list[Row]:
    head, *drift = _background(labels, unit)
    body = []
    for (name, own), row in zip(labels.items(), drift, strict=True):
        body.append([name, str(own["windows"]), *(percent(own[kind]["kept"]) for kind in KINDS), *row[1:]])
    return [["", "windows", "moving kept", "still kept", "background " + head[1], *head[2:]], *body]


def _left_out(result: SelfCheck) -> list[str]:
    return [f"not checked: {reason}" for reason in result.refused] + [
        f"no labels in space: {reason}" for reason in result.unlabelled
    ]


def _listed(lines: list[str], bullet: str) -> list[str]:
    return ["\n".join(bullet + line for line in lines)] if lines else []
