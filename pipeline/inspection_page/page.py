"""One page that needs nothing but itself: what a build holds, what it left out, and samples whose flow plays over their
image.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.inspection.colours import change_table
from pipeline.inspection.quality_table import quality_table
from pipeline.inspection.rejections import RejectedWindow, Rejections, measure_words, reason_words
from pipeline.inspection.sample import Found
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
from pipeline.inspection_page.cards import card, small_card
from pipeline.inspection_page.distributions import drawn, histograms_of
from pipeline.inspection_page.library import MISSING, Library, plotting_library
from pipeline.inspection_page.markup import (
    content_hash,
    image,
    json_text,
    numbers_table,
    rows_list,
    text,
    words_table,
)
from pipeline.inspection_page.script import SCRIPT
from pipeline.inspection_page.style import STYLE
from schemas.files import write_whole
from schemas.flow_quanta import QUANTUM_PX, QUANTUM_Z
from schemas.manifest import Manifest

EMPTY_STYLE = content_hash("")
"""The plotting library makes an empty style and fills it by rules, which a policy allows if it admits the empty one."""


@dataclass(frozen=True)
class RejectedPicture:
    """A rejected window with the dataset's own frames: the reference frame and the last."""

    window: RejectedWindow
    frames: tuple[bytes, bytes]


@dataclass(frozen=True)
class Contents:
    """What stands on a page.

    Attributes:
        summaries: of each set of shards; none for a page of one sample.
        samples: shown in full.
        worst, best: by score.
        videos: frames of steps 0..T by a sample's key, encoded.
        rejections: of each set.
        pictures: of rejected windows.
        notes: what could not be shown, in sentences.
        retargeted: whether the flow of those shown in full is also shown in even steps of distance.
    """

    summaries: Sequence[ShardSummary] = ()
    samples: Sequence[Found] = ()
    worst: Sequence[Found] = ()
    best: Sequence[Found] = ()
    videos: dict[str, list[bytes]] = field(default_factory=dict)
    rejections: Sequence[Rejections] = ()
    pictures: Sequence[RejectedPicture] = ()
    notes: Sequence[str] = ()
    retargeted: bool = False


def write_page(path: Path, contents: Contents) -> None:
    """Write the page whole.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, page(contents, plotting_library()).encode())


def page(contents: Contents, library: Library | None) -> str:
    """The page. Every text that comes from data is escaped, and the page may load and run nothing but its own parts."""
    shown = bool(contents.samples or contents.worst or contents.best)
    library = library if shown else None
    scripts = [content_hash(SCRIPT)] + ([content_hash(library.script)] if library else [])
    styles = [content_hash(STYLE)] + ([EMPTY_STYLE] if library else [])
    policy = (
        "default-src 'none'; img-src data:; "
        f"style-src {_quoted(styles)}; script-src {_quoted(scripts)}; base-uri 'none'; form-action 'none'"
    )
    title = _title(contents)
    shared = {"colours": change_table(), "quantum": [QUANTUM_PX, QUANTUM_Z]}
    packed = f'<script type="text/plain" id="library">{library.packed}</script>\n' if library else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(_body(contents, title, library, shown))
        + f'\n</main>\n<script type="application/json" id="shared">{json_text(shared)}</script>\n{packed}'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _title(contents: Contents) -> str:
    if contents.summaries:
        return ", ".join(set_names(contents.summaries))
    return f"sample {contents.samples[0].triplet.key}" if contents.samples else "no samples"


def _body(contents: Contents, title: str, library: Library | None, shown: bool) -> list[str]:
    in_space = library is not None
    body = [f"<header><h1>{text(title)}</h1></header>"] if len(contents.summaries) != 1 else []
    names = set_names(contents.summaries)
    body += [_overview(s, name, len(names) > 1) for s, name in zip(contents.summaries, names, strict=True)]
    body.append(_histograms(contents))
    body.append(_rejections(contents))
    notes = [*contents.notes, *([] if library or not shown else [MISSING])]
    body += (
        [f"<section class='verdict unsure'>{''.join(f'<p>{text(n)}</p>' for n in notes)}</section>"] if notes else []
    )
    if contents.samples:
        body.append(_toolbar(len(contents.samples), sum(s.samples for s in contents.summaries)))
    brief = bool(contents.summaries)
    cards = "".join(
        card(f, brief, contents.videos.get(f.triplet.key), in_space, contents.retargeted) for f in contents.samples
    )
    body.append(f'<section class="cards">{cards}</section>')
    for name, found in (("Worst samples", contents.worst), ("Best samples", contents.best)):
        if found:
            small = "".join(small_card(f, contents.videos.get(f.triplet.key), in_space) for f in found)
            body.append(
                f"<section class='toolbar'><h2>{name}</h2><p>By score: {text(SCORE_MEANS)}.</p></section>"
                f"<section class='cards small-cards'>{small}</section>"
            )
    return body


def _overview(summary: ShardSummary, name: str, several: bool) -> str:
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
    level = "h2" if several else "h1"
    details = f"{_verdict(summary)}<div class='columns'>{_inside(summary)}{_flows(summary)}</div>"
    return (
        f"<header><{level}>{text(name)}</{level}><p class='where'>{text(summary.collection.path)}</p></header>"
        f"<section class='tiles'>{strip}</section>"
        + (f"<details><summary>What is inside</summary>{details}</details>" if several else details)
    )


def _verdict(summary: ShardSummary) -> str:
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
        f"<section class='panel'><h2>What is inside</h2>{rows_list(summary_rows(summary))}"
        + (f"<h3>Instructions, by number of samples</h3>{words}" if summary.words.instructions else "")
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
        "<section class='panel'><h2>How far moving points go</h2><p class='where'>Share of steps, or of points, in "
        "each bin, on a "
        "scale of tenths. Normalised: divided by the published scale; grey lies beyond [-1, 1].</p>"
        f"{drawn(sets)}</section>"
    )


def _rejections(contents: Contents) -> str:
    blocks = []
    for summary, set_name, found in zip(
        contents.summaries, set_names(contents.summaries), contents.rejections, strict=True
    ):
        if not found:
            continue
        manifest = summary.collection.manifest
        most = max([*found.windows.values(), *found.quarantined_counts.values()])
        name = f": {text(set_name)}" if len(contents.summaries) > 1 else ""
        rows = "".join(
            _reason_row(reason, count, most, reason_words(reason, manifest))
            for reason, count in found.windows.most_common()
        )
        faults = "".join(
            _reason_row(code, count, most, "; ".join(found.quarantined.get(code, ())))
            for code, count in found.quarantined_counts.most_common()
        )
        pictures = "".join(_rejected_picture(p, manifest) for p in contents.pictures if p.window in _examples(found))
        blocks.append(
            f"<section class='panel'><h2>What was left out{name}</h2>"
            + (f"<h3>Windows rejected, by reason</h3><table class='reasons'>{rows}</table>" if rows else "")
            + (f"<h3>Episodes and files quarantined</h3><table class='reasons'>{faults}</table>" if faults else "")
            + (f"<div class='rejected'>{pictures}</div>" if pictures else "")
            + "</section>"
        )
    return "".join(blocks)


def _examples(found: Rejections) -> list[RejectedWindow]:
    return [window for windows in found.examples.values() for window in windows]


def _reason_row(reason: str, count: int, most: int, words: str) -> str:
    return (
        f"<tr><td>{text(reason.replace('_', ' '))}</td><td>{count:,}</td><td><svg viewBox='0 0 100 6' "
        "preserveAspectRatio='none'>"
        f"<rect width='{100 * count / most:.1f}' height='6'/></svg></td><td>{text(words)}</td></tr>"
    )


def _rejected_picture(picture: RejectedPicture, manifest: Manifest | None) -> str:
    window, source = picture.window, picture.window.source
    said = f"{window.reason.replace('_', ' ')}: {measure_words(window, manifest)}".rstrip(": ")
    first, last = (image(data, "small", "frame") for data in picture.frames)
    return (
        f"<figure>{first}{last}<figcaption>{text(said)}</figcaption>"
        f"<p class='where'>{text(source.file)}, {text(source.episode)}, {text(source.camera)}, frame "
        f"{source.frame}</p></figure>"
    )


def _toolbar(count: int, total: int) -> str:
    shown = f"{count} of {total:,} samples" if total else "One sample"
    return (
        f"<section class='toolbar'><h2>{shown}</h2><button id='all' type='button'>Play all</button>"
        "<p>Each keypoint's way over the image. Colour is the change of its depth since the reference frame. Faint: "
        "hidden at that "
        "step. Small dots do not move. In space: drag to turn, scroll to come nearer.</p>"
        "<noscript><p>The flow is drawn by a script, which is switched off here.</p></noscript></section>"
    )


def _quoted(hashes: list[str]) -> str:
    return " ".join(f"'{h}'" for h in hashes)
