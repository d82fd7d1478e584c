"""The folded sections of a page: the build's content, how far points move, and what was left out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.inspection.quality_table import quality_table
from pipeline.inspection.rejections import RejectedWindow, Rejections, measure_words, reason_words
from pipeline.inspection.score import SCORE_MEANS
from pipeline.inspection.summary import ShardSummary
from pipeline.inspection.text import (
    bytes_words,
    finding_words,
    flow_rows,
    flow_tables,
    instruction_rows,
    integrity_words,
    percent,
    set_names,
    summary_rows,
)
from pipeline.inspection_page.cards import Drawing, folded_card, rejected_look, small_card
from pipeline.inspection_page.contents import Contents, RejectedPicture
from pipeline.inspection_page.distributions import drawn, histograms_of
from pipeline.inspection_page.markup import image, numbers_table, rows_list, text, words_table
from schemas.manifest import Manifest


@dataclass(frozen=True)
class Section:
    """A folded section of the page, listed in the table of contents.

    Attributes:
        name: id of the element that the table of contents links to.
        wide: whether a script opens it at once on a wide screen.
    """

    name: str
    title: str
    body: str
    wide: bool = True

    def markup(self) -> str:
        """The section as HTML."""
        kind = "section wide" if self.wide else "section"
        return (
            f"<details class='{kind}' id='{self.name}'><summary><h2>{text(self.title)}</h2></summary>"
            f"{self.body}</details>"
        )


def sections_of(contents: Contents, drawing: Drawing) -> list[Section]:
    """Every section that has something to show, in order."""
    names = set_names(contents.summaries)
    several = len(names) > 1
    found = [
        Section(f"inside-{number}", f"What is in {name}" if several else "What is inside", _overview(summary))
        for number, (summary, name) in enumerate(zip(contents.summaries, names, strict=True))
    ]
    more = list(contents.samples)[1:]
    if more:
        cards = "".join(folded_card(f, drawing, contents.retargeted) for f in more)
        total = sum(summary.samples for summary in contents.summaries)
        title = f"{len(more)} more of {total:,} samples"
        found.append(Section("samples", title, cards))
    found.append(Section("histograms", "How far moving points go", _histograms(contents)))
    found.append(Section("left-out", "What was left out", _rejections(contents, drawing)))
    for kind, samples in (("Worst", contents.worst), ("Best", contents.best)):
        cards = "".join(small_card(f, drawing) for f in samples)
        body = f"<p class='where'>By score: {text(SCORE_MEANS)}.</p><div class='cards small-cards'>{cards}</div>"
        found.append(Section(kind.lower(), f"{kind} samples", body if samples else "", wide=False))
    return [section for section in found if section.body]


def _overview(summary: ShardSummary) -> str:
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
    strip = "".join(f"<div><b>{text(value)}</b><span>{text(label)}</span></div>" for label, value in tiles)
    return (
        f"<p class='where'>{text(summary.collection.path)}</p><section class='tiles'>{strip}</section>"
        f"{verdict(summary)}<div class='columns'>{_inside(summary)}{_flows(summary)}</div>"
    )


def verdict(summary: ShardSummary) -> str:
    """Whether files and samples are unchanged since the build."""
    failures = "".join(f"<li>{text(finding_words(f))}</li>" for f in summary.findings)
    notes = "".join(f"<p>{text(note)}</p>" for note in summary.notes)
    kind = "bad" if summary.findings else "good" if summary.verified else "unsure"
    return (
        f'<section class="verdict {kind}"><p><b>Integrity:</b> {text(integrity_words(summary))}.</p>'
        f"{f'<ul>{failures}</ul>' if failures else ''}{notes}</section>"
    )


def _inside(summary: ShardSummary) -> str:
    manifest = summary.collection.manifest
    words = words_table(instruction_rows(summary))
    recipe = json.dumps(manifest.recipe, indent=1, ensure_ascii=False) if manifest else ""
    return (
        f"<section class='panel'>{rows_list(summary_rows(summary))}"
        + (f"<h3>Instructions, by number of samples</h3>{words}" if summary.counters.instructions else "")
        + (f"<details><summary>The recipe</summary><pre>{text(recipe, True)}</pre></details>" if recipe else "")
        + "</section>"
    )


def _flows(summary: ShardSummary) -> str:
    def tables(flow: dict, points: str) -> str:
        return "".join(numbers_table(t) for t in flow_tables(flow) if t.title.split(", ")[-1] == points)

    checks = quality_table(summary)
    shown = f"<section class='panel checks'><h2>The checks</h2>{numbers_table(checks)}</section>" if checks else ""
    flows = "".join(
        "<section class='panel'><h2>Flow, depth in "
        f"{text(f['unit'])}</h2>{rows_list(flow_rows(f))}{tables(f, 'moving points')}"
        f"<details><summary>The same for all points</summary>{tables(f, 'all points')}</details></section>"
        for f in summary.flow
    )
    return f"<div class='stack'>{flows}{shown}</div>"


def _histograms(contents: Contents) -> str:
    names = set_names(contents.summaries)
    sets = [h for s, name in zip(contents.summaries, names, strict=True) for h in histograms_of(name, s.flow)]
    if not sets:
        return ""
    return (
        "<section class='panel'><p class='where'>Share of steps, or of points, in each bin, on a logarithmic scale. "
        "Normalised: divided by the published scale; grey lies beyond [-1, 1].</p>"
        f"{drawn(sets)}</section>"
    )


def _rejections(contents: Contents, drawing: Drawing) -> str:
    names = set_names(contents.summaries)
    return "".join(
        _rejections_of(found, summary.collection.manifest, name if len(names) > 1 else "", contents.pictures, drawing)
        for summary, name, found in zip(contents.summaries, names, contents.rejections, strict=True)
        if found
    )


def _rejections_of(
    found: Rejections, manifest: Manifest | None, name: str, pictures: Sequence[RejectedPicture], drawing: Drawing
) -> str:
    most = max([*found.windows.values(), *found.quarantined_counts.values()])
    windows = "".join(
        _reason_row(reason, count, most, reason_words(reason, manifest))
        for reason, count in found.windows.most_common()
    )
    faults = "".join(
        _reason_row(code, count, most, "; ".join(found.quarantined.get(code, ())))
        for code, count in found.quarantined_counts.most_common()
    )
    examples = _examples(found)
    shown = "".join(_rejected_picture(p, manifest, drawing) for p in pictures if p.window in examples)
    return (
        "<section class='panel'>"
        + (f"<h3>{text(name)}</h3>" if name else "")
        + (f"<h3>Windows rejected, by reason</h3><table class='reasons'>{windows}</table>" if windows else "")
        + (f"<h3>Episodes and files quarantined</h3><table class='reasons'>{faults}</table>" if faults else "")
        + (f"<div class='rejected'>{shown}</div>" if shown else "")
        + "</section>"
    )


def _examples(found: Rejections) -> list[RejectedWindow]:
    return [window for windows in found.examples.values() for window in windows]


def _reason_row(reason: str, count: int, most: int, words: str) -> str:
    return (
        f"<tr><td>{text(reason.replace('_', ' '))}</td><td>{count:,}</td><td><svg viewBox='0 0 100 6' "
        "preserveAspectRatio='none'>"
        f"<rect width='{100 * count / most:.1f}' height='6'/></svg></td><td>{text(words)}</td></tr>"
    )


def _rejected_picture(picture: RejectedPicture, manifest: Manifest | None, drawing: Drawing) -> str:
    window, source = picture.window, picture.window.source
    said = f"{window.reason.replace('_', ' ')}: {measure_words(window, manifest)}".rstrip(": ")
    if picture.flow is not None:
        shown = rejected_look(picture.flow, drawing)
    else:
        first, last = (image(data, "small", "frame") for data in picture.frames)
        shown = f"<div class='ends'>{first}{last}</div>"
    return (
        f"<figure>{shown}<figcaption>{text(said)}</figcaption>"
        f"<p class='where'>{text(source.file)}, {text(source.episode)}, {text(source.camera)}, frame "
        f"{source.frame}</p></figure>"
    )
