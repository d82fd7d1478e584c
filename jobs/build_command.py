"""``lamp-data build``: check what was asked for, run it, and say what came of it."""

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path

from jobs.build_options import Build, recipe_of, selection_of
from jobs.command_line import Failed, UsageError
from schemas.plugins import configure, load_plugin, parse_options, plugin_names
from schemas.structured import SUFFIXES


def build_command(args: Build) -> int:
    """Run a build and say what came of it; the exit code."""
    from jobs.progress import progress_bar
    from pipeline import readers
    from pipeline.build import ShardConfig, build
    from pipeline.execution import BuildError
    from pipeline.licences import licences_of, restriction_words
    from pipeline.selection import BadSelection
    from schemas.shard_formats import CorruptShard, UnfitSamples

    if args.dataset in readers.PLANNED:
        known = ", ".join(plugin_names("pipeline.readers"))
        raise UsageError(
            f"--dataset {args.dataset} is recognised, but this version has no reader for it yet; it reads: {known}"
        )
    if args.dataset not in readers.recognised_datasets() and not args.dataset.endswith(SUFFIXES):
        known = ", ".join(readers.recognised_datasets())
        raise UsageError(
            f"--dataset must be one of {known}, or a mapping file ({', '.join(SUFFIXES)}), found {args.dataset!r}"
        )
    if not 0 <= args.max_quarantined <= 1:
        raise UsageError(f"--max-quarantined is a share between 0 and 1, found {args.max_quarantined}")
    try:
        recipe, selection = recipe_of(args), selection_of(args)
        source = args.input or Path("data") / recipe.info.name
        output = args.output or Path("shards") / recipe.info.name
        shards = ShardConfig(args.format, args.samples_per_shard, args.seed)
        load_plugin("schemas.shard_formats", args.format)
        options = configure("jobs.executors", args.executor, parse_options(args.executor_options))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if (warning := restriction_words(licences_of(recipe))) is not None:
        print(f"lamp-data: {warning}", file=sys.stderr, flush=True)
    executor = load_plugin("jobs.executors", args.executor).build(options)
    try:
        summary = build(
            recipe,
            source.resolve(),
            output.resolve(),
            shards,
            executor,
            progress_bar,
            selection,
            keep_parts=args.keep_parts,
            form=args.form,
        )
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        raise UsageError(str(error)) from error
    except (readers.SeveralForms, readers.UnknownForm, BadSelection) as error:
        raise UsageError(str(error)) from error
    except (BuildError, CorruptShard, UnfitSamples) as error:
        raise Failed(str(error)) from error
    summary.output = output
    print(json.dumps(_summary_json(summary), indent=1) if args.json else _summary_text(summary))
    if summary.quarantined_share > args.max_quarantined:
        raise Failed(
            f"{len(summary.quarantined)} of {summary.episodes + len(summary.quarantined)} episodes were quarantined, more than "
            f"--max-quarantined {args.max_quarantined:g} allows; the rest is built, see {output}/episodes.jsonl"
        )
    return 0


def _summary_json(summary) -> dict:
    values = dataclasses.asdict(summary)
    return {**values, "output": str(summary.output), "quarantined_share": summary.quarantined_share}


def _summary_text(summary) -> str:
    windows = summary.kept + sum(summary.rejected.values())
    per_sample = summary.bytes / max(summary.kept, 1) / 1000
    lines = [
        f"{summary.output}: already complete, nothing to do" if summary.already_complete else f"{summary.output}",
        f"  episodes     {summary.episodes} with {summary.frames} frames",
        f"  triplets     {summary.kept} kept of {windows} windows, in {summary.shards} shard(s) of {summary.bytes / 1e6:.1f} MB "
        f"in all ({per_sample:.1f} kB a sample)",
    ]
    for reason, count in summary.left_out.items():
        lines.append(f"  left out     {count} {reason}")
    if summary.no_language:
        lines.append(f"  no language  {summary.no_language} episodes, kept")
    for reason, count in summary.skipped_cameras.items():
        lines.append(f"  skipped      {count} cameras {reason}")
    for note, count in summary.notes.items():
        lines.append(f"  note         {count} episodes {note}")
    for reason, count in summary.rejected.items():
        lines.append(f"  rejected     {count} {reason}")
    for code, count in sorted(Counter(q.code for q in summary.quarantined).items()):
        lines.append(f"  quarantined  {count} {code}")
        shown = [q for q in summary.quarantined if q.code == code]
        lines += [f"    {q.message}" for q in shown[:5]]
        if len(shown) > 5:
            lines.append(f"    ... and {len(shown) - 5} more, all in {summary.output}/episodes.jsonl")
    return "\n".join(lines)
