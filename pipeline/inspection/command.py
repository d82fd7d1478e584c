"""The entry of ``lamp-data inspect``."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from pipeline.inspection.collection import CannotInspect, open_collection
from pipeline.inspection.sample_report import Found, describe, find_sample
from pipeline.inspection.summary import Candidate, Summary, evenly, summarise
from pipeline.inspection.terminal import sample_text, summary_text
from pipeline.inspection.text import finding_words
from schemas.shard_formats import open_shard


def inspect(
    path: Path,
    *,
    sample: str | None = None,
    picture: Path | None = None,
    html: Path | None = None,
    as_json: bool = False,
    verify: bool = True,
    limit: int = 400,
    shown: int = 12,
    order: Literal["moving", "spread"] = "moving",
    say: Callable[[str], None] = print,
) -> int:
    """Show what lies at a path: a shard, a folder of shards or a manifest.

    Args:
        sample: key or number (from 0) of one sample to show in full.
        picture: where to write a picture of that sample, or of several.
        html: where to write a page that needs nothing but itself.
        as_json: say JSON in place of text.
        verify: read every sample and compare every SHA-256; else only the measured samples are read.
        limit: how many samples, evenly spread, ranges of flow and sizes are measured on.
        shown: how many samples a page shows, or a picture without ``sample``.
        order: show the samples that move most, or evenly spread ones.
        say: where the text goes.

    Returns:
        The exit code: 0 when all is well, 1 when a check failed (each failure is named).

    Raises:
        CannotInspect: a person's mistake, a damaged input or an output that cannot be written, in one sentence, with its exit
            code.
    """
    from pipeline.inspection.html_page import write_page
    from pipeline.inspection.pictures import check_picture_path, write_picture

    _check(limit=limit, shown=shown)
    if picture:
        check_picture_path(picture)
    collection = open_collection(path)
    summary, chosen = None, []
    if sample is not None:
        chosen = [find_sample(collection, sample)]
        facts = describe(chosen[0])
        text = "\n".join([sample_text(facts), *(f"failure: {finding_words(f)}" for f in collection.findings)])
    else:
        summary = summarise(collection, verify, limit)
        facts, text = summary.to_json(), summary_text(summary)
        if picture or html:
            chosen = _choose(summary, shown, order)
    written: dict[str, str] = {}
    if picture and chosen:
        with _writing(picture):
            write_picture(picture, [f.triplet for f in chosen])
        written["picture"] = str(picture)
    if html:
        with _writing(html):
            write_page(html, summary, chosen)
        written["page"] = str(html)
    if as_json:
        say(json.dumps({**facts, "written": written}, ensure_ascii=False, indent=1))
    else:
        say("\n".join([text, *(f"{kind} written to {file}" for kind, file in written.items())]))
    if picture and not chosen:
        raise CannotInspect(f"{path} has no sample that can be drawn, so {picture} was not written", 1)
    return 1 if collection.findings else 0


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotInspect(f"{path} cannot be written: {error.strerror or error}", 1) from error


def _check(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise CannotInspect(f"--{name} must be 1 or more, found {value}")


def _choose(summary: Summary, count: int, order: str) -> list[Found]:
    """Some of the measured samples, read again."""
    choose = most_moving if order == "moving" else spread
    found = []
    for candidate in choose(summary.candidates, count):
        shard = open_shard(candidate.shard)
        found.append(Found(candidate.number, candidate.shard, shard.read(candidate.row)))
        shard.close()
    return found


def most_moving(candidates: list[Candidate], count: int, apart: int = 32) -> list[Candidate]:
    """Those that move most, preferring windows that do not overlap one shown before."""
    ranked = sorted(candidates, key=lambda c: (-c.score, c.key))
    chosen: list[Candidate] = []
    for c in ranked:
        if all(c.episode != o.episode or abs(c.frame - o.frame) >= apart for o in chosen):
            chosen.append(c)
        if len(chosen) == count:
            return chosen
    return chosen + [c for c in ranked if c not in chosen][: count - len(chosen)]


def spread(candidates: list[Candidate], count: int) -> list[Candidate]:
    """Evenly spread over episodes and their frames."""
    ordered = sorted(candidates, key=lambda c: c.key)
    return [ordered[i] for i in evenly(len(ordered), count)]
