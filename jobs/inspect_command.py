"""``lamp-data inspect``: look at shards, or at a dataset's own folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from jobs.command_line import Failed, UsageError


@dataclass(frozen=True)
class Inspect:
    """Show what is in shards: counts, sizes, languages, flow, integrity; or one sample with everything. Of a dataset's own folder: form,
    cameras, words, conventions, faults."""

    path: tyro.conf.Positional[Path]
    """A shard (.tar or .zarr), a folder of shards, a manifest, a folder of such folders, or a folder of a dataset's episodes."""
    sample: str | None = None
    """Show this sample: its key, or its number."""
    picture: Path | None = None
    """Write a PNG: image with flow over it (colour: change of depth), depth, wrist image. Of a dataset's folder: first, middle and
    last frame of each camera of a few episodes, with the tool where calibration puts it."""
    html: Path | None = None
    """Write one self-contained page to look through: flow played over the image and in space, histograms, worst and best, what
    was left out."""
    input: Path | None = None
    """With --html: folder of the dataset's own files, so that the page shows its frames."""
    verify: bool = True
    """Check every checksum; --no-verify skips that."""
    shown: int = 12
    """Samples in the picture or on the page; episodes of a dataset that are looked at."""
    order: Literal["moving", "spread", "worst", "best"] = "moving"
    """Which samples those are: the ones that move most, are worst or best by score (what of them can be believed), or evenly spread."""
    limit: int = 2000
    """Samples read for the ranges of flow; a larger set is sampled evenly, and it says so."""
    json: bool = False
    """Print JSON."""


def inspect_command(args: Inspect) -> int:
    """Show shards; 1 if anything in them is damaged."""
    from pipeline.inspection import CannotInspect, inspect
    from pipeline.inspection.dataset import is_dataset_folder

    if args.input is not None and args.html is None:
        raise UsageError("--input serves the page: give --html FILE with it")
    try:
        if is_dataset_folder(args.path):
            return _inspect_dataset(args)
        return inspect(
            args.path,
            sample=args.sample,
            picture=args.picture,
            html=args.html,
            dataset=args.input,
            as_json=args.json,
            verify=args.verify,
            limit=args.limit,
            shown=args.shown,
            order=args.order,
        )
    except CannotInspect as error:
        raise (UsageError if error.exit_code == 2 else Failed)(str(error)) from error


def _inspect_dataset(args: Inspect) -> int:
    """Show what a folder of a dataset holds; 1 if some of it cannot be used."""
    from pipeline.inspection.contact_sheet import write_contact_sheet
    from pipeline.inspection.dataset import report_dataset, report_text, report_values
    from pipeline.inspection.pictures import check_picture_path

    for name, given in (("sample", args.sample), ("html", args.html)):
        if given is not None:
            raise UsageError(f"--{name} is for shards, and {args.path} holds a dataset's episodes; build shards first")
    if args.shown < 1:
        raise UsageError(f"--shown must be 1 or more, found {args.shown}")
    if args.picture is not None:
        check_picture_path(args.picture)
    report = report_dataset(args.path, args.shown)
    if args.picture is not None:
        report.faults += write_contact_sheet(args.picture, f"{report.folder}: {report.info['name']}", report.looked_at)
    print(json.dumps(report_values(report), indent=1) if args.json else report_text(report))
    return 1 if report.faults else 0
