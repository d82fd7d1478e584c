"""The entry of ``lamp-data inspect``."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.inspection.ranking import Order, choose, read_again
from pipeline.inspection.retargeted import describe_retargeted
from pipeline.inspection.sample import Found, describe, find_sample
from pipeline.inspection.shard_paths import CannotInspect, Collection, open_collection, sets_at
from pipeline.inspection.summary import ShardSummary, summarise
from pipeline.inspection.terminal import sample_text, summary_text
from pipeline.inspection.text import finding_words

WORST_AND_BEST = 4
"""Samples of each on a page."""


def inspect(
    path: Path,
    *,
    sample: str | None = None,
    picture: Path | None = None,
    html: Path | None = None,
    dataset: Path | None = None,
    as_json: bool = False,
    verify: bool = True,
    limit: int = 400,
    shown: int = 12,
    order: Order = "moving",
    retargeted: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Show what lies at a path: a shard, a folder of shards, a manifest, or a folder of several folders of shards.

    Args:
        sample: key or number (from 0) of one sample to show in full.
        picture: where to write a picture of that sample, or of several.
        html: where to write a page that needs nothing but itself.
        dataset: folder of the dataset's own files, for the page to show the frames that flow was made from.
        as_json: say JSON in place of text.
        verify: read every sample and compare every SHA-256; else only the measured samples are read.
        limit: how many samples, evenly spread, ranges of flow and sizes are measured on.
        shown: how many samples a page shows, or a picture without ``sample``.
        order: show the samples that move most, the worst or best by score, or evenly spread ones.
        retargeted: show each sample's flow also in even steps of distance, beside that in even steps of time.
        say: where the text goes.

    Returns:
        The exit code: 0 when all is well, 1 when a check failed (each failure is named).

    Raises:
        CannotInspect: a person's mistake, a damaged input or an output that cannot be written, in one sentence, with
            its exit code.
    """
    from pipeline.inspection.pictures import check_picture_path, write_picture

    _check(limit=limit, shown=shown)
    if retargeted and sample is None and not picture and not html:
        raise CannotInspect("--retargeted shows samples: give --sample, --picture or --html with it")
    if picture:
        check_picture_path(picture)
    if dataset and not dataset.is_dir():
        raise CannotInspect(f"{dataset} is no folder: --input names the folder of the dataset's own files")
    paths = sets_at(path)
    if sample is not None and len(paths) > 1:
        raise CannotInspect(
            f"{path} holds {len(paths)} sets of shards: to see one sample give one of them, e.g. {paths[0]}"
        )
    collections = [open_collection(p) for p in paths]
    summaries: list[ShardSummary] = []
    if sample is not None:
        chosen = [[find_sample(collections[0], sample)]]
        facts = describe(chosen[0][0])
        if retargeted:
            facts["retargeted"] = describe_retargeted(chosen[0][0].triplet)
        text = "\n".join([sample_text(facts), *(f"failure: {finding_words(f)}" for f in collections[0].findings)])
    else:
        summaries = [summarise(collection, verify, limit) for collection in collections]
        facts = _facts(summaries, path)
        text = "\n\n\n".join(summary_text(summary) for summary in summaries)
        each = max(1, shown // len(summaries))
        chosen = [read_again(choose(s.candidates, each, order)) if picture or html else [] for s in summaries]
    samples = [found for group in chosen for found in group]
    written: dict[str, str] = {}
    if picture and samples:
        with _writing(picture):
            write_picture(picture, [f.triplet for f in samples], retargeted)
        written["picture"] = str(picture)
    if html:
        with _writing(html):
            _write_page(html, collections, summaries, chosen, dataset, retargeted)
        written["page"] = str(html)
    if as_json:
        say(json.dumps({**facts, "written": written}, ensure_ascii=False, indent=1))
    else:
        say("\n".join([text, *(f"{kind} written to {file}" for kind, file in written.items())]))
    if picture and not samples:
        raise CannotInspect(f"{path} has no sample that can be drawn, so {picture} was not written", 1)
    return 1 if any(collection.findings for collection in collections) else 0


def _facts(summaries: list[ShardSummary], path: Path) -> dict[str, Any]:
    if len(summaries) == 1:
        return summaries[0].to_json()
    return {"path": str(path), "sets": [summary.to_json() for summary in summaries]}


def _write_page(
    path: Path,
    collections: list[Collection],
    summaries: list[ShardSummary],
    chosen: list[list[Found]],
    dataset: Path | None,
    retargeted: bool,
) -> None:
    """The page of sets, or of one sample when there are no summaries."""
    from pipeline.inspection.rejections import Rejections, read_rejections
    from pipeline.inspection.source_frames import WayBack
    from pipeline.inspection_page.frames import pictures_of, videos_of
    from pipeline.inspection_page.page import Contents, write_page

    worst, best = [], []
    for summary in summaries:
        count = min(WORST_AND_BEST, len(summary.candidates) // 2)
        worst.append(read_again(choose(summary.candidates, count, "worst")))
        best.append(read_again(choose(summary.candidates, count, "best")))
    rejections = [read_rejections(s.collection.folder) if s.collection.whole else Rejections() for s in summaries]
    videos, pictures, faults = {}, [], set()
    if dataset:
        way = WayBack(dataset)
        for i, collection in enumerate(collections):
            groups = [group[i] for group in (chosen, worst, best) if i < len(group)]
            more, why = videos_of([f for group in groups for f in group], way, collection.manifest)
            videos |= more
            faults |= why
            if i < len(rejections):
                steps = groups[0][0].triplet.flow.horizon if groups[0] else 0
                shown, why = pictures_of(rejections[i], way, collection.manifest, steps)
                pictures += shown
                faults |= why
    contents = Contents(
        summaries=summaries,
        samples=_joined(chosen),
        worst=_joined(worst),
        best=_joined(best),
        videos=videos,
        rejections=rejections,
        pictures=pictures,
        notes=sorted(faults),
        retargeted=retargeted,
    )
    write_page(path, contents)


def _joined(groups: list[list[Found]]) -> list[Found]:
    return [found for group in groups for found in group]


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
