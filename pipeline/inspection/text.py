"""Summaries and samples as text: the rows that the terminal and the page both show."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.inspection.score import Score
from pipeline.inspection.summary import DEPTH_RESIDUAL, ShardSummary
from pipeline.inspection.table import Rows, Table
from pipeline.licences import restriction_words
from schemas.manifest import Manifest
from schemas.triplet import NONE

SHOWN_INSTRUCTIONS = 8
SHOWN_NOTES = 6
ORDER = ("kept", "rejected", "quarantined", "episodes", "frames")


def summary_name(summary: ShardSummary) -> str:
    """The dataset's name."""
    manifest = summary.collection.manifest
    return str(manifest.dataset.get("name", "unnamed")) if manifest else "triplets"


def set_names(summaries: Sequence[ShardSummary]) -> list[str]:
    """The datasets' names, with their folders if several have the same name."""
    names = [summary_name(s) for s in summaries]
    return [
        n if names.count(n) == 1 else f"{n} ({s.collection.folder.name})" for n, s in zip(names, summaries, strict=True)
    ]


def summary_title(summary: ShardSummary) -> str:
    """A title for the summary, in one line."""
    name, manifest = summary_name(summary), summary.collection.manifest
    state = "" if manifest else ", unfinished or without manifest" if summary.collection.whole else ""
    return f"{name} in {summary.collection.path}{state}"


def summary_rows(summary: ShardSummary) -> Rows:
    """The content of a set of shards, by name."""
    manifest, whole = summary.collection.manifest, summary.collection.whole
    rows = _manifest_rows(manifest) if manifest else []
    shards = f"{summary.shards:,} {'shard' if summary.shards == 1 else 'shards'}"
    named = manifest.samples if manifest and whole else summary.samples
    missing = f"; the manifest says {named:,}" if named != summary.samples else ""
    rows += [("samples", f"{summary.samples:,} of {_plural(summary.episodes, 'episode')} in {shards}{missing}")]
    if manifest and whole:
        rows += [("the build", counts_words(manifest.counts)), *_notes(manifest)]
    rows += [("size", _sizes(summary)), ("read", _basis(summary))]
    return rows + _counted_rows(summary) if summary.read else rows


def _manifest_rows(manifest: Manifest) -> Rows:
    """Dataset, terms and recipe."""
    dataset = manifest.dataset
    rows = [
        ("dataset", f"{dataset.get('name', '?')}, version {dataset.get('version', '?')}"),
        ("licence", dataset.get("licence", "?")),
    ]
    rows += [("", f"{what}: {said}") for what, said in manifest.licences.items() if not what.startswith("dataset ")]
    restricted = restriction_words(manifest.licences or {"dataset": dataset.get("licence", "")})
    rows += [("use", restricted)] if restricted else []
    rows += [("credit", dataset["credit"])] if dataset.get("credit") else []
    return [*rows, ("recipe", f"{manifest.recipe_digest[:12]} (SHA-256)")]


def _counted_rows(summary: ShardSummary) -> Rows:
    """Counts over the samples that were read."""
    counters, read = summary.counters, summary.read
    rows = [
        ("frames per second", listed(counters.fps, read)),
        ("camera", listed(counters.cameras, read)),
        ("pictures", listed(summary.pictures, summary.measured)),
        ("intrinsics", listed(counters.intrinsics, read)),
        ("camera pose", listed(counters.poses, read)),
        *_flow_source_rows(summary),
        ("state", listed(counters.state, read)),
        ("actions", listed(counters.actions, read)),
        ("standard actions", listed(counters.standard_actions, read)),
        ("success", listed(counters.success, read)),
        (
            "instructions",
            f"{len(counters.instructions):,} different; {_plural(counters.blank, 'sample')} without any",
        ),
    ]
    if counters.generated_instructions:
        rows += [("generated", f"{listed(counters.generated_instructions, read)}; kept apart from people's own")]
    return rows


def _flow_source_rows(summary: ShardSummary) -> Rows:
    """How the flow was made; one line where no sample has any."""
    counters, read = summary.counters, summary.read
    if set(counters.flow) == {NONE}:
        return [("flow", "none: for training the policy (stage 2) only")]
    return [
        ("depth", listed(counters.depth, read)),
        *_alignment_rows(summary),
        ("flow", listed(counters.flow, read)),
        ("keypoints", listed(counters.grid, read)),
        ("a step lasts", listed(counters.steps, read)),
    ]


def instruction_rows(summary: ShardSummary, most: int = SHOWN_INSTRUCTIONS) -> Rows:
    """The most common instructions, with the number of samples that have each."""
    rows = [(f"{count:,}", text) for text, count in summary.counters.instructions.most_common(most)]
    left = len(summary.counters.instructions) - len(rows)
    return rows + ([("", f"and {left:,} more")] if left > 0 else [])


def _notes(manifest: Manifest) -> Rows:
    found = manifest.counts.get("notes")
    return (
        [("note", f"{count:,} x {note}") for note, count in found.items()][:SHOWN_NOTES]
        if isinstance(found, Mapping)
        else []
    )


def flow_rows(flow: dict[str, Any]) -> Rows:
    """Shares of points and steps."""
    beyond = flow["share_beyond_motion_scale"]
    flags = [f"{name.replace('_', ' ')} {percent(share)}" for name, share in flow["share_flagged"].items()]
    depth, unit = flow["reference_depth"], flow["unit"]
    rows = [
        ("moving points", f"{percent(flow['share_moving'])} (get {flow['moving_means']})"),
        ("exactly still", f"{percent(flow['share_exactly_still'])} of points"),
        ("visible", f"{percent(flow['share_visible'])} of steps within the episode"),
        ("valid", f"{percent(flow['share_valid'])} of steps within the episode"),
        ("point flags", ", ".join(flags) or "none"),
        ("beyond [-1, 1]", ", ".join(f"{k} {percent(v)}" for k, v in beyond.items()) + " of increments, normalised"),
        ("depth at reference", _span(depth, unit)),
    ]
    if flow["samples"] > 1 or flow["past_episode_end"]:
        rows += [
            (
                "past the end",
                f"{flow['past_episode_end']:,} of {_plural(flow['samples'], 'window')} outlast the episode",
            )
        ]
    return rows


def flow_tables(flow: dict[str, Any]) -> list[Table]:
    """Ranges of steps and of the whole displacement, for moving points and for all points."""
    metric = flow["unit"] == "m"
    fine, coarse = (("mm", 1e3), ("cm", 1e2)) if metric else ((flow["unit"], 1), (flow["unit"], 1))
    tables = []
    for group in ("moving", "all"):
        step, total = flow[group]["step"], flow[group]["total"]
        rows = [
            ["du (px)", *_cells(step["du_px"])],
            ["dv (px)", *_cells(step["dv_px"])],
            [f"dz ({fine[0]})", *_cells(step["dz"], fine[1])],
        ]
        tables.append(Table(f"one step, {group} points", ["", *step["du_px"]], rows))
        rows = [
            ["in the image (px)", *_cells(total["image_px"])],
            [f"in space ({coarse[0]})", *_cells(total["space"], coarse[1])],
        ]
        tables.append(Table(f"reference to last step, {group} points", ["", *total["image_px"]], rows))
        depth = [[f"depth ({coarse[0]})", *_cells(total["depth"], coarse[1])]]
        tables.append(Table(f"change of depth to last step, {group} points", ["", *total["depth"]], depth))
    return tables


def integrity_words(summary: ShardSummary) -> str:
    """One sentence on whether any check failed; the failures themselves are listed separately."""
    manifest, count = summary.collection.manifest, len(summary.findings)
    if count:
        return f"{_plural(count, 'failure')} found"
    if not summary.verified:
        return f"no failure in {_plural(summary.read, 'sample')} read (CRC-32C); the rest was not checked"
    if not manifest:
        return f"no failure in {_plural(summary.read, 'sample')} (CRC-32C); without a manifest, SHA-256 is not known"
    files = sum(1 + bool(s.index_sha256) for s in manifest.shards) + len(manifest.files)
    if not summary.collection.whole:
        return f"no failure in {_plural(summary.read, 'sample')} (CRC-32C), and this shard's SHA-256 is the manifest's"
    return f"no failure in {_plural(summary.read, 'sample')} (CRC-32C) and {_plural(files, 'file')} (SHA-256)"


def finding_words(finding: Any) -> str:
    """A failure in words, with its file and sample."""
    sample = f"sample {finding.sample}: " if finding.sample else ""
    return f"{finding.file}: {sample}{finding.problem}"


def counts_words(counts: Mapping[str, Any]) -> str:
    """``kept 15; rejected 4 (no_motion 3, too_short 1)``; a count of 0 is shown only where it tells something."""
    parts = []
    for name in sorted(counts, key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER)):
        value = counts[name]
        if name == "notes" or (not value and name not in ORDER):
            continue
        name = name.replace("_", " ")
        if isinstance(value, Mapping):
            total = sum(v for v in value.values() if isinstance(v, int))
            reasons = ", ".join(f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in value.items())
            parts.append(f"{name} {total:,}" + (f" ({reasons})" if reasons else ""))
        else:
            parts.append(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}")
    return "; ".join(parts)


def listed(counter: Counter[str], total: int, most: int = 4) -> str:
    """The values, with the number of samples that have each if there are several."""
    found = counter.most_common(most)
    if len(found) == len(counter) and all(count == total for _, count in found):
        return "; ".join(value for value, _ in found)
    more = [f"and {len(counter) - len(found):,} more"] if len(counter) > len(found) else []
    return "; ".join([f"{value} ({count:,})" for value, count in found] + more)


def percent(share: float | None) -> str:
    """``12.3%``; a small share that is not zero is never shown as zero."""
    if share is None:
        return "-"
    return f"{100 * share:.1f}%" if share == 0 or share >= 0.0005 else "< 0.1%"


def score_words(score: Score) -> str:
    """``score 0.58: 61% valid; depth edge 3%, lost 40%``."""
    flags = ", ".join(f"{name.replace('_', ' ')} {percent(share)}" for name, share in score.flagged.items())
    return f"score {score.value:.2f}: {percent(score.valid)} valid" + (f"; {flags}" if flags else "")


def bytes_words(count: float) -> str:
    """``21.5 kB`` (decimal)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def number(value: float | None) -> str:
    """Two or three digits."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    magnitude = abs(value)
    if magnitude < 0.1:
        return f"{value:.2g}"
    return f"{value:.0f}" if magnitude >= 100 else f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"


def _cells(values: dict[str, float | None], scale: float = 1) -> list[str]:
    return [number(None if v is None else v * scale) for v in values.values()]


def _alignment_rows(summary: ShardSummary) -> Rows:
    """How estimated depth was scaled to metres, if any was."""
    residual = summary.quality.get(DEPTH_RESIDUAL)
    if residual is None:
        return []
    words = listed(summary.counters.depth_alignment, summary.read)
    return [
        (
            "depth aligned",
            f"{words}; {number(100 * residual['p50'])} cm off its anchors in the median sample, at most "
            f"{number(100 * residual['max'])} cm",
        )
    ]


def _span(values: dict[str, float | None], unit: str) -> str:
    if values["min"] is None:
        return "none"
    return f"{number(values['min'])} to {number(values['max'])} {unit}, median {number(values['p50'])}"


def _sizes(summary: ShardSummary) -> str:
    text, parts = bytes_words(summary.bytes), summary.bytes_per_sample
    if not parts:
        return text
    split = ", ".join(f"{name} {bytes_words(parts[key])}" for key, name in
                      (("pictures", "pictures"), ("flow", "flow"), ("rest", "the rest"))
                      if parts[key] or key != "flow")  # fmt: skip
    return f"{text}; {bytes_words(parts['all'])} a sample: {split}"


def _basis(summary: ShardSummary) -> str:
    read = (
        "all samples"
        if summary.read == summary.samples
        else f"{summary.read:,} of {_plural(summary.samples, 'sample')}"
    )
    parts = [
        f"{what} measured on {count:,}"
        for what, count in (("flow and pictures", summary.measured), ("sizes", summary.sized))
        if count < summary.read
    ]
    return "; ".join([read, *parts]) + (", evenly spread" if parts or summary.read < summary.samples else "")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
