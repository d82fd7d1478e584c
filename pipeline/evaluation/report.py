"""Evaluations as text tables and as JSON."""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.by_body import CONTRASTS, STILL, WRONG, BodyLabels
from pipeline.evaluation.metrics import STEPS, Metrics
from pipeline.evaluation.run import BASELINE, Evaluation
from pipeline.evaluation.text_tables import Row, aligned, markdown, number, percent
from schemas.scene_flow import MOVES

SHORT = ("kept", "< 2 cm", "< 0.5 cm", "mean cm")
ERRORS = ("kept", "median cm", "mean cm", "90th cm", "< 0.5 cm", "< 2 cm", "< 5 cm", "< 10 cm", "px median", "px mean")
WORST = f"Bodies with the most labels that are off by more than {100 * WRONG:g} cm"
KINDS = (
    ("moving", f"Points that move more than {100 * MOVES:g} cm, truly visible"),
    ("static", "Points that stand still, truly visible"),
    ("occluded", "Points that are truly hidden; where they are may be known, but they should not be taken for seen"),
)


def as_json(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """All results except the pictures."""
    return [
        {
            "truth": e.truth,
            "choice": e.choice,
            "frames_per_second": e.frames_per_second,
            "refused": e.refused,
            "metrics": e.metrics,
            "worst_bodies": [bad.found.as_dict() for bad in e.worst],
        }
        for e in evaluations
    ]


def as_text(evaluations: Sequence[Evaluation]) -> str:
    """Tables for the terminal."""
    parts = [aligned(title, rows) for title, rows in tables(evaluations)]
    worst = [f"  {line}" for line in worst_lines(evaluations)]
    parts += ["\n".join([WORST, *worst])] if worst else []
    return "\n\n".join([*parts, *_listed("\n".join(_refusals(evaluations)))])


def as_markdown(evaluations: Sequence[Evaluation]) -> str:
    """The same tables for the docs."""
    parts = [markdown(title, rows) for title, rows in tables(evaluations)]
    worst = [f"* {line}" for line in worst_lines(evaluations)]
    parts += ["\n".join([f"**{WORST}**", "", *worst])] if worst else []
    parts += _listed("\n".join(f"* {line}" for line in _refusals(evaluations)))
    return "\n\n".join(parts) + "\n"


def tables(evaluations: Sequence[Evaluation]) -> list[tuple[str, list[Row]]]:
    """(title, rows, of which the first is the header), for each source of exact flow."""
    found = []
    for truth in dict.fromkeys(e.truth for e in evaluations):
        rows = [(e, e.metrics) for e in evaluations if e.truth == truth and e.metrics is not None]
        if not rows:
            continue
        windows = max(m["windows"] for _, m in rows)
        for kind, title in KINDS:
            points = max(m[kind]["points"] for _, m in rows)
            own = ["taken for seen"] if kind == "occluded" else []
            head = ["", "windows", *own, *ERRORS]
            body = [
                [e.choice, _labelled(m), *(percent(m[kind]["taken_for_seen"]) for _ in own), *_error_cells(m[kind])]
                for e, m in rows
            ]
            found.append((f"{truth}, {windows} windows. {title} ({points:,} point-steps)", [head, *body]))
        found.append((f"{truth}. Moving points by step: kept, mean cm", _by_step(rows)))
        found += _tables_by_body(truth, rows)
        found.append((f"{truth}. The whole", _whole(rows)))
    return found


def _error_cells(errors: Metrics) -> Row:
    return [
        percent(errors["kept"]),
        *(number(errors["cm"][name]) for name in ("median", "mean", "p90")),
        *(percent(share) for share in errors["within_cm"].values()),
        *(number(errors["px"][name]) for name in ("median", "mean")),
    ]


def _by_step(rows: list[tuple[Evaluation, Metrics]]) -> list[Row]:
    steps = [s for s in STEPS if s in rows[0][1]["by_step"]["moving"]]
    body = []
    for evaluation, metrics in rows:
        cells = [metrics["by_step"]["moving"][step] for step in steps]
        body.append([evaluation.choice, *(f"{percent(c['kept'])}, {number(c['cm']['mean'])}" for c in cells)])
    return [["", *(f"step {step}" for step in steps)], *body]


def _tables_by_body(truth: str, rows: list[tuple[Evaluation, Metrics]]) -> list[tuple[str, list[Row]]]:
    """By kind of body, in short, by step and by texture; none where bodies are not known."""
    rows = [(e, m) for e, m in rows if m.get("by_body")]
    if not rows:
        return []
    groups = [name for name, cell in rows[0][1]["by_body"].items() if cell["points"]]
    short = [["", "body", "of moving point-steps", *SHORT, "bodies wrong"]]
    steps = [["", "body", *(f"step {step}" for step in rows[0][1]["by_body"][STILL]["by_step"])]]
    texture = [["", "body", *(f"{level}: {_range(low, high)}" for level, low, high in CONTRASTS)]]
    for evaluation, metrics in rows:
        judged = metrics["bodies_wrong"]
        for group in groups:
            cell = metrics["by_body"][group]
            whole = f"{judged['wrong']} of {judged['of']}" if group == STILL else ""
            short.append([evaluation.choice, group, percent(cell["share_of_moving"]), *_short(cell), whole])
            steps.append([evaluation.choice, group, *(", ".join(_kept_and_mean(c)) for c in cell["by_step"].values())])
            levels = metrics["by_texture"][group].values()
            texture.append(
                [evaluation.choice, group]
                + [", ".join([_of(c["points"], cell["points"]), *_kept_and_mean(c)]) for c in levels]
            )
    return [
        (f"{truth}. By body: points that move, and {STILL} ones, truly visible", short),
        (f"{truth}. By body and step: kept, mean cm", steps),
        (f"{truth}. By body and texture: share of the body's point-steps, kept, mean cm", texture),
    ]


def worst_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """The bodies with the most wrong labels of each choice, a line each."""
    lines = []
    for e in evaluations:
        for bad in (found for found in e.worst if found.found.wrong):
            b = bad.found
            body = f", {b.body.name} ({b.body.kind})" if b.body else ""
            whole = "; the whole body is wrong" if b.whole else ""
            lines.append(f"{e.choice}: {b.clip}{body}: {counted(b)}{whole}")
    return lines


def counted(body: BodyLabels) -> str:
    """How many of a body's labels are wrong, and how far they are off on average."""
    mean = "" if body.mean is None else f", mean error {100 * body.mean:.2f} cm"
    return f"{body.wrong:,} of {body.labels:,} labels wrong{mean}"


def _short(cell: Metrics) -> Row:
    within = cell["within_cm"]
    return [
        percent(cell["kept"]),
        *(percent(within[limit], digits=2) for limit in ("2.0", "0.5")),
        number(cell["cm"]["mean"]),
    ]


def _kept_and_mean(cell: Metrics) -> tuple[str, str]:
    return percent(cell["kept"]), number(cell["cm"]["mean"])


def _of(part: int, whole: int) -> str:
    return percent(part / whole if whole else None)


def _range(low: float, high: float) -> str:
    return f"below {high:g}" if low == 0 else f"from {low:g}" if high == float("inf") else f"{low:g} to {high:g}"


def _whole(rows: list[tuple[Evaluation, Metrics]]) -> list[Row]:
    head = ["", "visibility right", "APD 3D", "Jaccard 3D", "drift mean cm", "drift 99th cm", "drift worst cm"]
    head += ["false movers a window", "worst window", "windows", "rejected", "refused episodes", "frames/s"]
    body = []
    for e, m in rows:
        drift, false = m["drift_cm"], m["false_movers"]
        body.append(
            [e.choice, *(percent(m[n]) for n in ("visibility_accuracy", "apd_3d", "jaccard_3d"))]
            + [number(drift[n]) for n in ("mean", "p99", "max")]
            + [number(false["mean"]), "-" if false["max"] is None else str(false["max"])]
            + [_labelled(m), str(m["rejected"]), str(len(e.refused) if e.choice != BASELINE else 0)]
            + ["" if e.frames_per_second is None else f"{e.frames_per_second:.0f}"]
        )
    return [head, *body]


def _labelled(metrics: Metrics) -> str:
    """Number of labelled windows, out of all with exact flow."""
    return f"{metrics['labelled']} of {metrics['windows']}"


def _refusals(evaluations: Sequence[Evaluation]) -> list[str]:
    """Why episodes are missing from all rows, or from some."""
    return [
        f"{e.truth}: left out: {reason}" if e.choice == BASELINE else f"{e.truth}, {e.choice}: not labelled: {reason}"
        for e in evaluations
        for reason in e.refused
    ]


def _listed(lines: str) -> list[str]:
    return [lines] if lines else []
