"""``lamp-data inspect``: look at shards, or at a dataset's own folder."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.help_text import optional_in_words
from jobs.cli.shipped import dataset_said
from schemas.errors import MissingDependency
from schemas.locations import locate

if TYPE_CHECKING:
    from jobs.commands.inspect_shards import View
    from pipeline.inspection_datasets.report import DatasetReport


@dataclass(frozen=True)
@optional_in_words
class Inspect:
    """Show what is in shards: counts, sizes, languages, flow, integrity; or one sample with everything. Of a dataset's
    own folder: form, cameras, words, conventions, faults."""

    URLS = ("path", "input")

    path: tyro.conf.Positional[Path]
    """A shard (.tar or .zarr), a folder of shards, a manifest, a folder of such folders, or a folder of a dataset's
    episodes.
    """
    sample: str | None = None
    """Show this sample: its key, or its number."""
    picture: Path | None = None
    """Write a PNG: image with flow over it (colour: change of depth), depth, wrist image. Of a dataset's folder: first,
    middle and last frame of each camera of a few episodes, with the tool where calibration puts it."""
    html: Path | None = None
    """Write one self-contained page to look through: flow played over the image and in space, histograms, worst and
    best, what was left out."""
    input: Path | None = None
    """With --html: folder of the dataset's own files, so that the page shows its frames."""
    verify: bool = True
    """Check every checksum; --no-verify skips that."""
    dataset: str | None = None
    """Of a dataset's folder: the reader, or a mapping file. [default: the reader that knows the files]"""
    dataset_options: tuple[str, ...] = ()
    """Of a dataset's folder: options of its reader as NAME=VALUE ...; with --dataset."""
    form: str | None = None
    """Of a dataset's folder: look at this form only."""
    draft_mapping: Path | None = None
    """Of a dataset that no reader knows: write a mapping file to correct."""
    shown: int = 12
    """Samples in the picture or on the page, at most; episodes of a dataset that are looked at."""
    order: Literal["moving", "spread", "worst", "best"] = "moving"
    """Which samples those are: the ones that move most, of different episodes and moments; worst or best by score (what
    of them can be believed); or evenly spread, however alike.
    """
    limit: int = 2000
    """Samples read for the ranges of flow; a larger set is sampled evenly, and it says so."""
    adaptive: bool = False
    """With --picture: draw the adaptive keypoints (build --keypoints adaptive) in place of the grid's."""
    retargeted: bool = False
    """With --sample, --picture or --html: show the flow also in even steps of distance, beside that in even steps of
    time.
    """
    json: bool = False
    """Print JSON."""


def inspect_command(args: Inspect) -> int:
    """Show shards; 1 if anything in them is damaged."""
    from jobs.commands.inspect_shards import inspect
    from pipeline.inspection.shard_paths import CannotInspect
    from pipeline.inspection_datasets.report import is_dataset_folder

    args = replace(args, path=locate(args.path), input=args.input and locate(args.input))
    if args.input is not None and args.html is None:
        raise UsageError("--input serves the page: give --html FILE with it")
    try:
        if args.dataset is not None or is_dataset_folder(args.path):
            return _inspect_dataset(args)
        return inspect(args.path, _view(args))
    except CannotInspect as error:
        raise (UsageError if error.exit_code == 2 else Failed)(str(error)) from error


def _view(args: Inspect) -> "View":
    from jobs.commands.inspect_shards import View

    return View(
        sample=args.sample,
        picture=args.picture,
        html=args.html,
        dataset=args.input,
        as_json=args.json,
        verify=args.verify,
        limit=args.limit,
        shown=args.shown,
        order=args.order,
        retargeted=args.retargeted,
        adaptive=args.adaptive,
    )


def _inspect_dataset(args: Inspect) -> int:
    """Show what a dataset's folder holds, or its keys if no reader knows it; 1 if some of it cannot be used."""
    from pipeline.inspection_datasets.report import UnknownDataset, report_text, report_values

    _check_for_dataset(args)
    try:
        report = _report(args)
    except UnknownDataset as error:
        return _inspect_keys(args, error)
    if args.draft_mapping is not None:
        name = report.info["name"]
        raise UsageError(f"--draft-mapping is for datasets that no reader knows, and {args.path} is read as {name}")
    if args.picture is not None:
        report.faults.extend(_contact_sheet(args.picture, report))
    print(json.dumps(report_values(report), indent=1) if args.json else report_text(report))
    return 1 if report.faults else 0


def _check_for_dataset(args: Inspect) -> None:
    """Refuse options that only apply to shards, and values that make no sense.

    Raises:
        UsageError: there is such an option.
    """
    from pipeline.inspection.pictures import check_picture_path

    for name, given in (
        ("sample", args.sample),
        ("html", args.html),
        ("retargeted", args.retargeted or None),
        ("adaptive", args.adaptive or None),
    ):
        if given is not None:
            raise UsageError(f"--{name} is for shards, and {args.path} holds a dataset's episodes; build shards first")
    if args.dataset_options and args.dataset is None:
        raise UsageError("--dataset-options belong to a reader; name it with --dataset")
    if args.shown < 1:
        raise UsageError(f"--shown must be 1 or more, found {args.shown}")
    if args.picture is not None:
        check_picture_path(args.picture)


def _report(args: Inspect) -> "DatasetReport":
    """Report on the folder as its reader reads it.

    Raises:
        UsageError: there is no such reader, or a mapping file cannot be used.
        UnknownDataset: no reader knows the files.
    """
    from pipeline.inspection_datasets.report import UnknownDataset, report_dataset
    from pipeline.readers import dataset_choice
    from schemas.plugins import parse_options

    try:
        options = parse_options(args.dataset_options)
        dataset = dataset_choice(dataset_said(args.dataset), options) if args.dataset else None
        return report_dataset(args.path, args.shown, dataset, args.form)
    except (UnknownDataset, MissingDependency):
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


def _contact_sheet(picture: Path, report: "DatasetReport") -> list[tuple[str, str]]:
    """Draw frames of the dataset's cameras; returns what could not be drawn."""
    from pipeline.inspection_datasets.contact_sheet import write_contact_sheet

    return list(write_contact_sheet(picture, f"{report.folder}: {report.info['name']}", report.looked_at))


def _inspect_keys(args: Inspect, unknown: Exception) -> int:
    """Show the keys of a dataset that no reader knows, and a draft of its mapping file."""
    from pipeline.inspection_datasets.keys import dataset_keys, draft_mapping, keys_text, keys_values
    from schemas.files import write_whole

    found = [keys for keys in dataset_keys(args.path) if args.form in (None, keys.form)]
    if not found:
        raise unknown
    if args.draft_mapping is not None:
        if args.draft_mapping.exists():
            raise UsageError(f"{args.draft_mapping} is there already; remove it, or name another file")
        write_whole(args.draft_mapping, draft_mapping(found[0]).encode())
    print(json.dumps(keys_values(found), indent=1) if args.json else keys_text(args.path, found, args.draft_mapping))
    return 0
