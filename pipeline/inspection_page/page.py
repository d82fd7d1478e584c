"""Writes one self-contained page: a sample whose flow plays over its image, then folded sections on the build's
content, what it left out and more samples.
"""

from pathlib import Path

from pipeline.inspection.colours import change_table
from pipeline.inspection.text import set_names
from pipeline.inspection_page.cards import Drawing, card
from pipeline.inspection_page.contents import Contents
from pipeline.inspection_page.library import MISSING, Library, plotting_library
from pipeline.inspection_page.markup import content_hash, json_text, text
from pipeline.inspection_page.scales import scales_of
from pipeline.inspection_page.script import SCRIPT
from pipeline.inspection_page.sections import Section, sections_of, verdict
from pipeline.inspection_page.style import STYLE
from schemas.files import write_whole
from schemas.flow_quanta import QUANTUM_PX, QUANTUM_Z

EMPTY_STYLE = content_hash("")
"""The plotting library adds rules to an empty style element; a policy that admits the empty style allows this."""


def write_page(path: Path, contents: Contents) -> None:
    """Write the page atomically.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, page(contents, plotting_library()).encode())


def page(contents: Contents, library: Library | None) -> str:
    """The page. Every text that comes from data is escaped; the page may load and run nothing but its own scripts."""
    triplets = contents.triplets()
    drawing = Drawing(scales_of(triplets), bool(library and triplets), contents.videos)
    library = library if triplets else None
    scripts = [content_hash(SCRIPT)] + ([content_hash(library.script)] if library else [])
    styles = [content_hash(STYLE)] + ([EMPTY_STYLE] if library else [])
    policy = (
        "default-src 'none'; img-src data:; "
        f"style-src {_quoted(styles)}; script-src {_quoted(scripts)}; base-uri 'none'; form-action 'none'"
    )
    title = _title(contents)
    shared = {"colours": change_table(), "quantum": [QUANTUM_PX, QUANTUM_Z]}
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(_body(contents, title, drawing))
        + f'\n</main>\n<script type="application/json" id="shared">{json_text(shared)}</script>\n'
        f"{_packed(library)}<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _title(contents: Contents) -> str:
    if contents.summaries:
        return ", ".join(set_names(contents.summaries))
    return f"sample {contents.samples[0].triplet.key}" if contents.samples else "no samples"


def _body(contents: Contents, title: str, drawing: Drawing) -> list[str]:
    """A sample first, then the table of contents, then its sections."""
    body = [f"<header><h1>{text(title)}</h1></header>"]
    body += [verdict(summary) for summary in contents.summaries if summary.findings]
    for first in contents.samples[:1]:
        body.append(f"<section class='cards'>{card(first, drawing, bool(contents.summaries), contents.retargeted)}")
        body.append(f"{_legend(drawing.in_space) if first.triplet.has_flow else ''}</section>")
    said = [*contents.notes, *([MISSING] if contents.triplets() and not drawing.in_space else [])]
    if said:
        notes = "".join(f"<p>{text(note)}</p>" for note in said)
        body.append(f"<section class='verdict unsure'>{notes}</section>")
    sections = sections_of(contents, drawing)
    if len(sections) > 1:
        body.append(_table_of_contents(sections))
    return body + [section.markup() for section in sections]


def _legend(in_space: bool) -> str:
    turning = " In space: drag to turn, scroll to come nearer." if in_space else ""
    return (
        "<p class='where'>Each keypoint's path over the image. Colour is the change of its depth since the reference "
        f"frame, on one scale for the whole page. Faint: hidden at that step. Small dots do not move.{turning}</p>"
        "<noscript><p>The flow is drawn by a script, which is switched off here.</p></noscript>"
    )


def _table_of_contents(sections: list[Section]) -> str:
    links = "".join(f"<li><a href='#{s.name}'>{text(s.title)}</a></li>" for s in sections)
    return f"<nav aria-label='contents'><ul>{links}</ul></nav>"


def _packed(library: Library | None) -> str:
    """The packed plotting library, and elements that keep it from adding styles which the policy would refuse."""
    if library is None:
        return ""
    marks = "".join(f"<template id='{name}'></template>" for name in library.styles)
    return f'{marks}<script type="text/plain" id="library">{library.packed}</script>\n'


def _quoted(hashes: list[str]) -> str:
    return " ".join(f"'{h}'" for h in hashes)
