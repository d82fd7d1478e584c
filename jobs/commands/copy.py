"""``lamp-data copy``: move a build between places."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from jobs.cli.exit_codes import Failed, UsageError
from schemas.file_cache import DEFAULT_GIGABYTES
from schemas.locations import locate


@dataclass(frozen=True)
class Copy:
    """Copy a build or a mixture between folders and URLs. Every checksum is verified, the manifest comes last, and what
    the target has already is not copied again. A folder that is no build is copied file by file."""

    URLS = ("source", "target")
    source: tyro.conf.Positional[Path]
    """A folder or URL (s3://, gs://, az://, https://, hf://datasets/OWNER/NAME)."""
    target: tyro.conf.Positional[Path]
    """Where to: a folder or the URL of a bucket. lamp-data push writes to the Hugging Face hub."""
    verify: bool = True
    """Read what was written again and compare its SHA-256. --no-verify compares what is read from the source only."""
    cache: float = DEFAULT_GIGABYTES
    """GB of this machine's disk for files of a URL that have to be whole."""
    json: bool = False
    """Print JSON."""


def copy_command(args: Copy) -> int:
    """Copy; 1 if the source is damaged."""
    from jobs.cli.progress import progress_bar
    from pipeline.build.copying import WouldReplaceBuild, copy_builds, copy_files
    from pipeline.errors import BuildError
    from schemas.file_cache import limit_cache
    from schemas.manifest import NAME, BadManifest
    from schemas.mixture import NAME as MIXTURE

    limit_cache(args.cache)
    source, target = locate(args.source), locate(args.target)
    if source == target or target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageError(f"{target} and {source} lie within each other: give a place beside it")
    if str(target).startswith(("hf://", "http://", "https://")):
        raise UsageError(f"{target} cannot be written file by file; for the hub use lamp-data push")
    if not source.exists() and not (source / NAME).is_file():
        raise UsageError(f"{source} does not exist")
    try:
        if any((source / name).is_file() for name in (NAME, MIXTURE)):
            summary = copy_builds(source, target, args.verify, progress_bar)
        else:
            summary = copy_files(source, target, progress_bar)
    except WouldReplaceBuild as error:
        raise UsageError(str(error)) from error
    except (BadManifest, BuildError) as error:
        raise Failed(str(error)) from error
    values = {"source": str(source), "target": str(target), **vars(summary)}
    print(json.dumps(values, indent=1) if args.json else _text(source, target, values))
    if summary.damaged:
        raise Failed(
            f"{len(summary.damaged)} file(s) of {source} could not be copied, so {target} got no manifest; the first: "
            f"{summary.damaged[0]}"
        )
    return 0


def _text(source: Path, target: Path, values: dict) -> str:
    lines = [
        f"{target}: {values['copied']} file(s) copied from {source}, {values['bytes'] / 1e6:.1f} MB; {values['there']} "
        "were there"
    ]
    return "\n".join([*lines, *(f"  {said}" for said in values["damaged"])])
