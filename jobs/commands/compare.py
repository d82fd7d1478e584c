"""``lamp-policy compare``: two evaluations on the same initial states."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from jobs.cli.exit_codes import UsageError


@dataclass(frozen=True)
class Compare:
    """Compare two evaluations, paired by initial state: McNemar's exact test, two-sided."""

    first: tyro.conf.Positional[Path]
    """Folder of results of lamp-policy evaluate."""
    second: tyro.conf.Positional[Path]
    """Another, of the same protocol."""
    json: bool = False
    """Print JSON."""


def compare_command(args: Compare) -> int:
    """Print how often each succeeded where the other did not, with the p-value."""
    from lamp_model.closed_loop.comparison import as_text, compare
    from lamp_model.closed_loop.results import BadResults, read_evaluation

    try:
        pairs = compare(args.first, args.second)
        names = [f"{read_evaluation(folder).policy.source} ({folder})" for folder in (args.first, args.second)]
    except BadResults as error:
        raise UsageError(str(error)) from error
    if args.json:
        print(json.dumps({"first": names[0], "second": names[1], "pairs": [one.as_dict() for one in pairs]}, indent=1))
    else:
        print(as_text(pairs, *names))
    return 0
