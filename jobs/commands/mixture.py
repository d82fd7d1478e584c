"""``lamp-data build --recipe FILE``: build each dataset in its own folder, then write the mixture that names them."""

import json
import logging
from pathlib import Path
from typing import Any

from jobs.cli.build_options import Build
from jobs.cli.build_report import trials_text
from jobs.cli.exit_codes import Failed, UsageError
from jobs.cli.options_file import RecipeFile, Section, read_recipe_file
from jobs.commands.build import Outcome, Plan, build_one, plan_of
from schemas.locations import StorePath
from schemas.manifest import BadManifest
from schemas.mixture import NAME, Mixture

log = logging.getLogger(__name__)


def mixture_command(args: Build) -> int:
    """Build every dataset of a recipe, one after the other, and write ``mixture.json`` last; returns the exit code.

    The others are built even if one dataset fails or too much of it is quarantined. The exit code is then 1. No mixture
    is written while a build is missing. Running the same command again builds what is missing.
    """
    try:
        recipe = read_recipe_file(args)
    except ValueError as error:
        raise UsageError(str(error)) from error
    plans = [(section, _plan(recipe, section)) for section in recipe.sections]
    outcomes, failures = _outcomes(plans, args.json)
    values: dict[str, Any] = {"datasets": {name: outcome.values for name, outcome in outcomes.items()}}
    if args.dry_run:
        said, more = _total(outcomes, isinstance(plans[0][1].output, StorePath)) if outcomes else (None, {})
    else:
        said, more = _mixture(recipe) if len(outcomes) == len(plans) else (None, {})
    if args.json:
        print(json.dumps(values | more, indent=1))
    elif said is not None:
        print(said)
    if failures:
        listed = "; ".join(f"{name}: {message}" for name, message in failures.items())
        raise Failed(f"{len(failures)} of {len(plans)} datasets of {args.recipe} failed ({listed})")
    return 0


def _outcomes(plans: list[tuple[Section, Plan]], silent: bool) -> tuple[dict[str, Outcome], dict[str, str]]:
    """Build all datasets, or try them; returns the results, printed unless silent, and the reasons for failures."""
    outcomes: dict[str, Outcome] = {}
    failures: dict[str, str] = {}
    for section, plan in plans:
        log.info("%s, from %s", section.name, plan.source)
        try:
            outcome = build_one(section.build, plan)
        except (Failed, UsageError) as error:
            failures[section.name] = str(error)
            continue
        outcomes[section.name] = outcome
        if outcome.failure is not None:
            failures[section.name] = outcome.failure
        if not silent:
            print(outcome.text)
    return outcomes, failures


def _plan(recipe: RecipeFile, section: Section) -> Plan:
    """A section's plan. Checks first that its folder exists, so that a misspelt name fails before hours of building."""
    try:
        plan = plan_of(section.build)
    except UsageError as error:
        raise UsageError(f"{section.name}: {error}") from error
    if not plan.source.is_dir():
        raise UsageError(
            f"{plan.source} does not exist: put {section.name} there, name the folder above with --input, or the "
            "folder below it in the recipe"
        )
    return plan


def _total(tried: dict[str, Outcome], in_store: bool) -> tuple[str, dict[str, Any]]:
    """The totals of all trials, in words and for ``--json``."""
    from pipeline.build.dry_run import Estimate, summed

    totals = {
        name: summed([Estimate(**outcome.values[name]) for outcome in tried.values()])
        for name in ("episodes", "frames", "windows", "triplets", "bytes", "hours")
    }
    free = min(outcome.values["free_bytes"] for outcome in tried.values())
    return trials_text(totals, len(tried), free, in_store), {"total": {name: vars(one) for name, one in totals.items()}}


def _mixture(recipe: RecipeFile) -> tuple[str, dict[str, Any]]:
    """Write the mixture of all builds; returns its content in words and for ``--json``."""
    mixture = _written(recipe)
    samples = sum(member.samples for member in mixture.members)
    return mixture_text(recipe.output, mixture), {"mixture": str(recipe.output / NAME), "samples": samples}


def _written(recipe: RecipeFile) -> Mixture:
    from pipeline.build.mixture import MixtureBuild, write_mixture

    try:
        return write_mixture(
            recipe.output,
            recipe.name,
            [MixtureBuild(section.name, section.name, section.weight) for section in recipe.sections],
        )
    except BadManifest as error:
        raise Failed(str(error)) from error


def mixture_text(output: Path, mixture: Mixture) -> str:
    """The content of a mixture in words, with how often each member is drawn."""
    members = mixture.members
    lines = [f"{output / NAME}: {sum(m.samples for m in members)} triplets of {len(members)} dataset(s)"]
    weights = [member.samples if member.weight is None else member.weight for member in members]
    for member, weight in zip(members, weights, strict=True):
        lines.append(
            f"  {member.name:<16} {member.samples} triplets of {member.episodes} episodes, "
            f"{weight / sum(weights):.1%} of those drawn"
        )
    lines.append(f"next: lamp-train --stage 1 --data {output}")
    return "\n".join(lines)
