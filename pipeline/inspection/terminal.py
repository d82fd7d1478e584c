"""Summaries and samples laid out for a terminal."""

import textwrap
from typing import Any

from pipeline.inspection.quality_table import quality_table
from pipeline.inspection.retargeted import retargeting_table
from pipeline.inspection.score import SCORE_MEANS
from pipeline.inspection.summary import ShardSummary
from pipeline.inspection.table import Rows, Table
from pipeline.inspection.text import (
    finding_words,
    flow_rows,
    flow_tables,
    instruction_rows,
    integrity_words,
    percent,
    summary_rows,
    summary_title,
)

WIDTH = 118
LABEL = 20


def summary_text(summary: ShardSummary) -> str:
    """The whole summary."""
    blocks = [summary_title(summary), _rows(summary_rows(summary))]
    if summary.counters.instructions:
        blocks.append("instructions by number of samples\n" + _rows(instruction_rows(summary)))
    if (quality := quality_table(summary)) is not None:
        blocks.append(_table(quality))
    for flow in summary.flow:
        what = f"flow of {flow['samples']:,} samples, depth in {flow['unit']}"
        tables = [t for t in flow_tables(flow) if "change of depth" not in t.title]
        blocks += [f"{what}\n{_rows(flow_rows(flow))}", *(_table(t) for t in tables)]
    lines = [f"integrity: {integrity_words(summary)}"]
    lines += [f"  {finding_words(f)}" for f in summary.findings]
    lines += [f"note: {note}" for note in summary.notes]
    return printable("\n\n".join([*blocks, "\n".join(lines)]))


def sample_text(sample: dict[str, Any]) -> str:
    """All facts of one sample (see ``pipeline.inspection.sample.describe``)."""
    blocks = [f"sample {sample['key']}", _rows(sample_rows(sample))]
    blocks.append("state at the reference frame\n" + _rows([(k, f"{v:.4f}") for k, v in sample["state"].items()]))
    blocks.append(_actions(sample["actions"]))
    if (flow := sample["flow"]) is not None:
        blocks.append(f"flow, depth in {flow['unit']}\n{_rows(flow_rows(flow))}")
        blocks += [_table(t) for t in flow_tables(flow) if "change of depth" not in t.title]
    if "retargeted" in sample:
        blocks.append(_table(retargeting_table(sample["retargeted"], sample["step_seconds"])))
    return printable("\n\n".join(blocks))


def sample_rows(sample: dict[str, Any]) -> Rows:
    """A sample's texts and single numbers, by name."""
    source, camera = sample["source"], sample["camera"]
    k = camera["intrinsics"]
    poses = camera["world_from_camera"]
    rows: Rows = [
        ("shard", f"{sample['shard']}, sample number {sample['number']} of the set"),
        ("source file", f"{source['dataset']}: {source['file']}"),
        ("source frame", f"{source['episode']}, camera {source['camera']}, frame {source['frame']}"),
        ("episode digest", sample["episode"]),
    ]
    rows += [("instruction", text if text.strip() else "(blank)") for text in sample["instructions"] or ["(none)"]]
    rows += [(f"generated {g['style']}", f"{g['text']} (by {g['model']})") for g in sample["generated_instructions"]]
    rows += [("success", {True: "yes", False: "no", None: "not said"}[sample["success"]])]
    rows += [("window", _window_words(sample))]
    for role, picture in sample["pictures"].items():
        size = f"{picture['size'][0]} x {picture['size'][1]}" if picture["size"] else "does not decode"
        rows.append((f"picture {role}", f"{picture['kind']}, {size}, {picture['bytes']:,} bytes"))
    known = any(any(row) for row in k)
    pixels = f"fx {k[0][0]:.2f}, fy {k[1][1]:.2f}, cx {k[0][2]:.2f}, cy {k[1][2]:.2f}"
    still = len(poses) == 1
    moves = "stands still" if still else f"{len(poses)} poses, up to {camera['moved']:.3f} from the first"
    rows += [
        ("bytes", ", ".join(f"{name} {size:,}" for name, size in sample["members"].items())),
        ("intrinsics", f"{pixels} px of {camera['size'][0]} x {camera['size'][1]}; {camera['intrinsics_source']}"
                       if known else "unknown"),
        ("world from camera", "; ".join("[" + " ".join(f"{v:.4f}" for v in row) + "]" for row in poses[0])),
        ("pose", f"{camera['pose_source']}; {moves}"),
        *(_flow_source_rows(sample) if sample["flow"] is not None else [("flow", "none")]),
    ]  # fmt: skip
    return rows


def _flow_source_rows(sample: dict[str, Any]) -> Rows:
    depth, flow = sample["depth"], sample["flow"]
    return [
        ("depth", f"{depth['unit']}, {depth['source']}"),
        *([("depth aligned", _alignment_words(depth["alignment"]))] if depth["alignment"] else []),
        ("flow", f"{flow['source']}, {sample['points']} points, {sample['moving_points']} moving"),
        ("point flags", _named_numbers(sample["point_flags"])),
        ("checks", _named_numbers(sample["quality"]) or "not said"),
        ("score", f"{sample['score']:.2f}: {SCORE_MEANS}"),
    ]


def _window_words(sample: dict[str, Any]) -> str:
    if sample["flow"] is None:
        return f"one frame, {sample['fps']:g} frames per second"
    inside, steps = sample["steps_in_episode"], sample["steps"]
    cut = "" if inside == steps else f", {inside} within the episode"
    return f"{steps} steps{cut}, {_steps_words(sample)}"


def _named_numbers(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in numbers.items())


def _alignment_words(alignment: dict[str, Any]) -> str:
    return (
        f"by {alignment['method']}: 1 / z = {alignment['scale']:.4g} x estimate + {alignment['shift']:.4g}, "
        f"{alignment['residual']:.3g} {alignment['residual_unit']} off {alignment['anchors']:,} anchors (median), of "
        "which "
        f"{percent(alignment['agreeing'])} agree"
    )


def printable(text: str) -> str:
    """The text without control characters, so that data cannot control a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _actions(actions: dict[str, Any]) -> str:
    rows = [
        [str(i), *([f"{v:.3f}" for v in row] if there else ["-"] * len(row))]
        for i, (row, there) in enumerate(zip(actions["values"], actions["mask"], strict=True))
    ]
    kept = sum(actions["mask"])
    title = (
        f"actions after the reference frame: {actions['convention']} ({actions['description']}); "
        f"{kept} of {len(rows)} within the episode"
    )
    return textwrap.fill(title, WIDTH) + "\n" + _table(Table("", ["", *actions["dimensions"]], rows)).lstrip("\n")


def _rows(rows: Rows) -> str:
    lines = []
    for name, value in rows:
        lines += textwrap.wrap(
            value, WIDTH, initial_indent=f"  {name:<{LABEL}}", subsequent_indent=" " * (LABEL + 2),
            break_long_words=False, break_on_hyphens=False,
        ) or [f"  {name}"]  # fmt: skip
    return "\n".join(lines)


def _table(table: Table) -> str:
    first = max([LABEL - 2, *(len(row[0]) for row in table.rows)])
    columns = zip(*(row[1:] for row in [table.columns, *table.rows]), strict=True)
    cells = [max(8, 2 + max(map(len, column))) for column in columns]

    def line(row: list[str]) -> str:
        return f"  {row[0]:<{first}}" + "".join(f"{c:>{w}}" for c, w in zip(row[1:], cells, strict=True))

    return "\n".join([table.title, line(table.columns), *(line(row) for row in table.rows)])


def _steps_words(sample: dict[str, Any]) -> str:
    rate = f"{sample['fps']:g} frames per second"
    native = sample["resampling"] == "native"
    return rate if native else f"{sample['step_seconds']:.4g} s each ({sample['resampling']}); {rate}"
