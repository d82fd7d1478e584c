"""``lamp-data inspect`` for shards: print a summary, and write the picture and the page."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.inspection.ranking import Order, choose, read_again
from pipeline.inspection.retargeted import describe_retargeted
from pipeline.inspection.sample import Found, describe, find_sample
from pipeline.inspection.shard_paths import CannotInspect, Collection, open_collection, sets_at
from pipeline.inspection.summary import ShardSummary, summarise
from pipeline.inspection.terminal import sample_text, summary_text
from pipeline.inspection.text import finding_words
from schemas.triplet import Triplet

WORST_AND_BEST = 4
"""Number of worst and of best samples on a page."""


@dataclass(frozen=True)
class View:
    """What to show of shards, and where to write it.

    Attributes:
        sample: key or number (from 0) of one sample to show in full.
        picture: where to write a picture of that sample, or of several.
        html: where to write a self-contained page.
        dataset: folder of the dataset's own files, from which the page takes the frames that flow was made from.
        as_json: print JSON in place of text.
        verify: read every sample and compare every SHA-256; else only the measured samples are read.
        limit: how many samples, evenly spread, are measured for ranges of flow and sizes.
        shown: how many samples a page shows, or a picture without ``sample``.
        order: show the samples that move most, the worst or best by score, or evenly spread ones.
        retargeted: show each sample's flow also in even steps of distance, beside that in even steps of time.
        adaptive: draw the adaptive keypoints in the picture, in place of the grid's.
    """

    sample: str | None = None
    picture: Path | None = None
    html: Path | None = None
    dataset: Path | None = None
    as_json: bool = False
    verify: bool = True
    limit: int = 400
    shown: int = 12
    order: Order = "moving"
    retargeted: bool = False
    adaptive: bool = False


@dataclass(frozen=True)
class Shown:
    """What is printed, and what is drawn.

    Attributes:
        facts: for JSON.
        groups: the samples to draw, by collection.
        summaries: one for each collection; none when one sample is shown.
    """

    collections: list[Collection]
    facts: dict[str, Any]
    text: str
    groups: list[list[Found]]
    summaries: list[ShardSummary] = field(default_factory=list)

    @property
    def samples(self) -> list[Found]:
        """All samples that are drawn."""
        return _joined(self.groups)


def inspect(path: Path, view: View, say: Callable[[str], None] = print) -> int:
    """Show what lies at a path: a shard, a folder of shards, a manifest, or a folder of several folders of shards.

    Args:
        say: prints the text.

    Returns:
        The exit code: 0 when no check failed, 1 when one did (each failure is named).

    Raises:
        CannotInspect: a usage error, a damaged input or an output that cannot be written. The message is one sentence;
            the exit code is with it.
    """
    _check(view)
    paths = sets_at(path)
    shown = _sets(path, paths, view) if view.sample is None else _one_sample(path, paths, view.sample, view.retargeted)
    written = _written(shown, view)
    if view.as_json:
        say(json.dumps({**shown.facts, "written": written}, ensure_ascii=False, indent=1))
    else:
        say("\n".join([shown.text, *(f"{kind} written to {file}" for kind, file in written.items())]))
    if view.picture and not shown.samples:
        raise CannotInspect(f"{path} has no sample that can be drawn, so {view.picture} was not written", 1)
    return 1 if any(collection.findings for collection in shown.collections) else 0


def _one_sample(path: Path, paths: list[Path], sample: str, retargeted: bool) -> Shown:
    """One sample with all its facts."""
    if len(paths) > 1:
        raise CannotInspect(
            f"{path} holds {len(paths)} sets of shards: to see one sample give one of them, e.g. {paths[0]}"
        )
    collection = open_collection(paths[0])
    found = find_sample(collection, sample)
    facts = describe(found)
    if retargeted and not found.triplet.has_flow:
        raise CannotInspect(f"{path}: --retargeted shows flow, and sample {found.triplet.key} has none: leave it out")
    if retargeted:
        facts["retargeted"] = describe_retargeted(found.triplet)
    text = "\n".join([sample_text(facts), *(f"failure: {finding_words(f)}" for f in collection.findings)])
    return Shown([collection], facts, text, [[found]])


def _sets(path: Path, paths: list[Path], view: View) -> Shown:
    """Summaries of all sets at a path."""
    collections = [open_collection(p) for p in paths]
    summaries = [summarise(collection, view.verify, view.limit) for collection in collections]
    drawn = view.picture is not None or view.html is not None
    each = max(1, view.shown // len(summaries))
    groups = [read_again(choose(s.candidates, each, view.order)) if drawn else [] for s in summaries]
    text = "\n\n\n".join(summary_text(summary) for summary in summaries)
    return Shown(collections, _facts(summaries, path), text, groups, summaries)


def _written(shown: Shown, view: View) -> dict[str, str]:
    """Write the requested picture and page; returns the paths by kind of file."""
    from pipeline.inspection.pictures import write_picture

    written: dict[str, str] = {}
    if view.picture and shown.samples:
        with _writing(view.picture):
            write_picture(view.picture, [_drawn(f.triplet, view) for f in shown.samples], view.retargeted)
        written["picture"] = str(view.picture)
    if view.html:
        with _writing(view.html):
            _write_page(view.html, shown, view.dataset, view.retargeted)
        written["page"] = str(view.html)
    return written


def _drawn(triplet: Triplet, view: View) -> Triplet:
    """The sample as the picture shows it."""
    if not view.adaptive:
        return triplet
    if triplet.adaptive is None:
        raise CannotInspect(
            f"sample {triplet.key} has no adaptive keypoints: leave --adaptive out, or build with --keypoints adaptive"
        )
    return replace(triplet, flow=triplet.adaptive.flow, point_flags=triplet.adaptive.point_flags)


def _facts(summaries: list[ShardSummary], path: Path) -> dict[str, Any]:
    if len(summaries) == 1:
        return summaries[0].to_json()
    return {"path": str(path), "sets": [summary.to_json() for summary in summaries]}


def _write_page(path: Path, shown: Shown, dataset: Path | None, retargeted: bool) -> None:
    """Write the page of the sets, or of one sample when there are no summaries."""
    from pipeline.inspection.rejections import Rejections, read_rejections
    from pipeline.inspection.source_frames import WayBack
    from pipeline.inspection_page.frames import pictures_of, videos_of
    from pipeline.inspection_page.page import Contents, write_page

    worst, best = [], []
    for summary in shown.summaries:
        scored = [candidate for candidate in summary.candidates if candidate.has_flow]
        count = min(WORST_AND_BEST, len(scored) // 2)
        worst.append(read_again(choose(scored, count, "worst")))
        best.append(read_again(choose(scored, count, "best")))
    rejections = [read_rejections(s.collection.folder) if s.collection.whole else Rejections() for s in shown.summaries]
    videos, pictures, faults = {}, [], set()
    if dataset:
        way = WayBack(dataset)
        for i, collection in enumerate(shown.collections):
            groups = [group[i] for group in (shown.groups, worst, best) if i < len(group)]
            more, why = videos_of([f for group in groups for f in group], way, collection.manifest)
            videos |= more
            faults |= why
            if i < len(rejections):
                steps = groups[0][0].triplet.flow.horizon if groups[0] else 0
                drawn, why = pictures_of(rejections[i], way, collection.manifest, steps)
                pictures += drawn
                faults |= why
    contents = Contents(
        summaries=shown.summaries,
        samples=shown.samples,
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


def _check(view: View) -> None:
    """Refuse options that make no sense, before anything is read.

    Raises:
        CannotInspect: there is such an option.
    """
    from pipeline.inspection.pictures import check_picture_path

    for name in ("limit", "shown"):
        if getattr(view, name) < 1:
            raise CannotInspect(f"--{name} must be 1 or more, found {getattr(view, name)}")
    if view.retargeted and view.sample is None and not view.picture and not view.html:
        raise CannotInspect("--retargeted shows samples: give --sample, --picture or --html with it")
    if view.adaptive and not view.picture:
        raise CannotInspect("--adaptive draws: give --picture FILE with it")
    if view.picture:
        check_picture_path(view.picture)
    if view.dataset and not view.dataset.is_dir():
        raise CannotInspect(f"{view.dataset} is no folder: --input names the folder of the dataset's own files")
